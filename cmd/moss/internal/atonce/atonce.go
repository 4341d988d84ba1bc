// Package atonce does plain execs (`moss exec web true`) before the packages of
// the command line are there: what those do before main begins is half of the
// processor time of such a client, see docs/adr/0020-an-exec-at-once.md. It does
// what command exec does, in an init, with system calls that wait; what it does
// not know all about is left to that.
//
// Go initializes packages in the order of their paths as soon as those that they
// import are initialized. This one imports next to nothing, so that all that is
// dear comes later; a test keeps it so.
package atonce

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// Begun is an exec that was begun here and that command exec is to end: the zero
// value where there is none.
type Begun struct {
	ID    string
	Err   error // why it could not be started
	Ended bool  // its output is out: it remains to be asked how it ended
}

var begun Begun

// Left is what there is to end.
func Left() Begun { return begun }

func init() {
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case "exec", "run", "ps":
		// They wait most of the time: threads not made cost nothing.
		runtime.GOMAXPROCS(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "exec" {
		if e, ok := parse(os.Args[2:], os.Getenv); ok {
			e.run()
		}
	}
}

// call is an exec that is asked for, and of whom.
type call struct {
	socket, container, user, dir string
	env, command                 []string
}

// parse reads a command line in which nothing but variables, a user and a
// directory is asked for, of an engine at a socket.
func parse(args []string, getenv func(string) string) (*call, bool) {
	e := &call{socket: socket(getenv)}
	if e.socket == "" || getenv("TRACEPARENT") != "" || configured(getenv) {
		return nil, false
	}
	if hasPrefix(args[len(args)-1], "--generate-") { // a shell that completes
		return nil, false
	}
	for hasPrefix(args[0], "-") {
		if len(args) < 3 {
			return nil, false
		}
		name, value := args[0], args[1]
		switch variable, _, set := cut(value, "="); {
		case value == "" || spaced(value):
			return nil, false
		case (name == "-e" || name == "--env") && set && variable != "":
			e.env = append(e.env, value)
		case name == "-u" || name == "--user":
			e.user = value
		case name == "-w" || name == "--workdir":
			e.dir = value
		default:
			return nil, false
		}
		args = args[2:]
	}
	if len(args) < 2 || !plain(args[0]) || hasPrefix(args[1], "-") {
		return nil, false
	}
	e.container, e.command = args[0], args[1:]
	return e, valid(e.user, e.dir) && valid(e.env...) && valid(e.command...)
}

// socket is the path of the engine's; "" where the engine is elsewhere.
func socket(getenv func(string) string) string {
	for _, name := range []string{"MOSS_HOST", "DOCKER_HOST"} {
		if host := getenv(name); host != "" {
			if !hasPrefix(host, "unix:///") {
				return ""
			}
			return host[len("unix://"):]
		}
	}
	if dir := getenv("XDG_RUNTIME_DIR"); hasPrefix(dir, "/") {
		return dir + "/moss/moss.sock"
	}
	return ""
}

// plain says whether a container's name can be part of a path as it is.
func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}

// spaced says whether the library of flags could trim a value.
func spaced(value string) bool {
	first, last := value[0], value[len(value)-1]
	return first <= ' ' || last <= ' ' || first >= 0x80 || last >= 0x80
}

func (e *call) request() []byte {
	text := []byte(`{"AttachStdout":true,"AttachStderr":true`)
	if e.user != "" {
		text = appendString(append(text, `,"User":`...), e.user)
	}
	if e.dir != "" {
		text = appendString(append(text, `,"WorkingDir":`...), e.dir)
	}
	if e.env != nil {
		text = appendStrings(append(text, `,"Env":`...), e.env)
	}
	return append(appendStrings(append(text, `,"Cmd":`...), e.command), '}')
}

// run is the exec. It returns where command exec is to go on.
func (e *call) run() {
	asks, err := dial(e.socket)
	if err != nil {
		return
	}
	status, text, err := asks.ask("POST /containers/"+e.container+"/exec", e.request())
	id := member(text, "Id")
	if err != nil || status != 201 || len(id) < 3 || !plain(id[1:len(id)-1]) {
		asks.close() // command exec asks again, and says what is the matter
		return
	}
	begun.ID = id[1 : len(id)-1]
	streams, err := dial(e.socket)
	if err != nil {
		return
	}
	streams.beLate(heedSIGTERM)
	if begun.Err = streams.upgrade("POST /exec/"+begun.ID+"/start", []byte(`{"Detach":false,"Tty":false}`)); begun.Err != nil {
		return
	}
	if err := streams.print(os.Stdout, os.Stderr); err != nil {
		_, _ = os.Stderr.WriteString("moss: " + err.Error() + "\n") // nowhere else to say it
		os.Exit(1)
	}
	begun.Ended = true
	status, text, err = asks.ask("GET /exec/"+begun.ID+"/json", nil)
	if err != nil || status != 200 {
		return
	}
	if code, err := strconv.Atoi(member(text, "ExitCode")); err == nil {
		os.Exit(code)
	}
}

// heedSIGTERM has the program end as it does when it has come to main. It takes
// threads, which an exec of a few milliseconds does without.
func heedSIGTERM() {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		os.Exit(128 + int(syscall.SIGTERM))
	}()
}
