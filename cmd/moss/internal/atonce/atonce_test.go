package atonce_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/quick"

	"github.com/moss-containers/moss/cmd/moss/internal/atonce"
)

// TestMain tells what is left when the init of this package, which runs in the
// test's binary too, has not ended the process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "exec" {
		left := atonce.Left()
		fmt.Printf("left %q %v %v\n", left.ID, left.Err, left.Ended)
		os.Exit(99)
	}
	if len(os.Args) > 1 && os.Args[1] == "run" {
		fmt.Print(runtime.GOMAXPROCS(0))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "heed" {
		atonce.HeedSIGTERM()
		fmt.Print("!")
		select {}
	}
	os.Exit(m.Run())
}

// engine is one that knows execs only.
type engine struct {
	create, start, inspect int // statuses; 0 is success
	stream                 []byte
	streaming              func() // before the stream ends
	asked                  []string
	body                   string
}

const id = "4f2d00000000000000000000000000000000000000000000000000000000beef"

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked = append(e.asked, r.Method+" "+r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	refused := func(status int) bool {
		if status != 0 {
			w.WriteHeader(status)
			fmt.Fprintln(w, `{"message":"no"}`)
		}
		return status != 0
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/start"):
		if refused(e.start) {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		// In one write: what follows the headers may be read with them.
		_, _ = conn.Write(append([]byte("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"), e.stream...))
		if e.streaming != nil {
			e.streaming()
		}
	case r.Method == http.MethodPost:
		e.body = string(body)
		if !refused(e.create) {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"Id":%q}`+"\n", id)
		}
	default:
		if !refused(e.inspect) {
			fmt.Fprintln(w, `{"ID":"x","ProcessConfig":{"arguments":["\"ExitCode\":9,"]},"Running":false,"ExitCode":7,"Pid":0}`)
		}
	}
}

func part(stream byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text))), text...)
}

// command runs `moss exec args…` of an engine, and is to be started.
func command(t *testing.T, e *engine, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	cmd := exec.Command(os.Args[0], append([]string{"exec"}, args...)...)
	cmd.Env = []string{"MOSS_HOST=unix://" + filepath.Join(dir, "s"), "HOME=" + dir}
	return cmd
}

// outcome runs it to its end.
func outcome(t *testing.T, cmd *exec.Cmd) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

func TestExec(t *testing.T) {
	big := strings.Repeat("\x00\xff\r\n", 1<<18)
	e := &engine{stream: slices.Concat(part(1, "out\n"), part(2, "err\n"), part(1, ""), part(1, big), part(1, "end"))}
	code, out, errs := outcome(t, command(t, e, "-e", "A=1,2", "--user", "7:8", "-w", "/x", "web", "true", "-e"))
	if code != 7 || out != "out\n"+big+"end" || errs != "err\n" {
		t.Errorf("exit code %d, %d bytes of output, said %q", code, len(out), errs)
	}
	want := []string{"POST /containers/web/exec", "POST /exec/" + id + "/start", "GET /exec/" + id + "/json"}
	if !slices.Equal(e.asked, want) {
		t.Errorf("asked %q", e.asked)
	}
	if want := `{"AttachStdout":true,"AttachStderr":true,"User":"7:8","WorkingDir":"/x","Env":["A=1,2"],"Cmd":["true","-e"]}`; e.body != want {
		t.Errorf("asked for %s", e.body)
	}
}

// What is not as it should be is command exec's to tell, at the point that was reached.
func TestLeft(t *testing.T) {
	for name, test := range map[string]struct {
		engine engine
		want   string
	}{
		"not created": {engine{create: 404}, `left "" <nil> false`},
		"not started": {engine{start: 409}, `left "` + id + `" unable to upgrade to tcp, received 409 false`},
		"no answer":   {engine{inspect: 500, stream: part(1, "")}, `left "` + id + `" <nil> true`},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out, errs := outcome(t, command(t, &test.engine, "web", "true")); code != 99 || out != test.want+"\n" || errs != "" {
				t.Errorf("exit code %d, output %q, said %q", code, out, errs)
			}
		})
	}
}

func TestStreamEnds(t *testing.T) {
	for name, test := range map[string]struct {
		stream    []byte
		code      int
		out, errs string
	}{
		"in a header":   {append(part(1, "a"), 1, 0), 7, "a", ""},
		"in a part":     {append(part(1, "a"), part(1, "bcd")[:10]...), 7, "a", ""},
		"by the daemon": {part(3, "it broke"), 1, "", "moss: error from daemon in stream: it broke\n"},
		"by nonsense":   {part(9, ""), 1, "", "moss: unrecognized stream: 9\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out, errs := outcome(t, command(t, &engine{stream: test.stream}, "web", "true")); code != test.code || out != test.out || errs != test.errs {
				t.Errorf("exit code %d, output %q, said %q", code, out, errs)
			}
		})
	}
}

// It is heeded as main does, once an exec takes its time.
func TestSIGTERM(t *testing.T) {
	cmd := exec.Command(os.Args[0], "heed")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
		t.Error(err)
	}
}

func TestLate(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	say := func(text string) {
		if _, err := syscall.Write(fds[1], []byte(text)); err != nil {
			t.Error(err)
		}
	}
	late := 0
	in := atonce.Late(fds[0], func() { late++; say("b") })
	say("a")
	var got [1]byte
	for _, want := range []struct {
		text string
		late int
	}{{"a", 0}, {"b", 1}} {
		if _, err := io.ReadFull(in, got[:]); err != nil || string(got[:]) != want.text || late != want.late {
			t.Errorf("read %q, late %d times: %v", got, late, err)
		}
	}
}

// What is dear comes later: nothing in this test's binary, which links plenty, is
// initialized before but what the runtime and package os bring.
func TestInitializedFirst(t *testing.T) {
	cmd := command(t, &engine{}, "web", "true")
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	_, _, trace := outcome(t, cmd)
	for _, m := range regexp.MustCompile(`(?m)^init (\S+)`).FindAllStringSubmatch(trace, -1) {
		if slices.Contains([]string{"unicode", "reflect", "fmt", "encoding/json", "regexp", "net", "net/http"}, m[1]) {
			t.Errorf("package %s is initialized before", m[1])
		}
	}
	if !strings.Contains(trace, "init os ") {
		t.Errorf("no trace: %s", trace)
	}
}

func TestOneProcessor(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Skip("there is no other")
	}
	if out, err := exec.Command(os.Args[0], "run", "busybox").Output(); err != nil || string(out) != "1" {
		t.Errorf("%s processors: %v", out, err)
	}
}

func TestParse(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/7", "HOME": t.TempDir()}
	configured, loggedIn, pipe := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{configured: `{"detachKeys":"a"}`, loggedIn: `{"auths":{"a.example":{"auth":"eDp5"}},"currentContext":"moss"}`} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(pipe, "config.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string // split at spaces, ␣ stands for one
		set  string
		want bool
	}{
		{"web true", "", true},
		{"web sh -c exit␣7", "", true},
		{"-e A=b --env C= web true", "", true},
		{"-u 1 -w / web true", "", true},
		{"web true", "DOCKER_HOST=unix:///x", true},
		{"web true", "MOSS_HOST=tcp://1.2.3.4:5", false},
		{"web true", "MOSS_HOST=/x", false},
		{"web true", "DOCKER_HOST=ssh://x", false},
		{"web true", "XDG_RUNTIME_DIR=", false},
		{"web true", "TRACEPARENT=00-1", false},
		{"web true", "DOCKER_AUTH_CONFIG={}", false},
		{"web true", "DOCKER_CONFIG=" + configured, false},
		{"web true", "DOCKER_CONFIG=" + loggedIn, true},
		{"web true", "DOCKER_CONFIG=" + pipe, false},
		{"web true", "DOCKER_CONFIG=" + filepath.Join(loggedIn, "config.json"), false}, // no directory
		{"web", "", false},
		{"-e A=b web", "", false},
		{"-e A=b", "", false},
		{"-e", "", false},
		{"-e A web true", "", false}, // the value is the environment's
		{"-e =b web true", "", false},
		{"-e A=b␣ web true", "", false}, // the library trims it
		{"-eA=b web true", "", false},
		{"--env=A=b web true", "", false},
		{"-i web true", "", false},
		{"-it web sh", "", false},
		{"-d web true", "", false},
		{"-- web true", "", false},
		{"web -- true", "", false},
		{"web --help", "", false},
		{"web ls --help", "", true},
		{"we/b true", "", false},
		{". true", "", false},
		{"web?x true", "", false},
		{"web \xff", "", false},
		{"web ls --generate-bash-completion", "", false},
	} {
		getenv := func(name string) string {
			if set, value, _ := strings.Cut(test.set, "="); set == name {
				return value
			}
			return env[name]
		}
		var args []string
		for arg := range strings.FieldsSeq(test.args) {
			args = append(args, strings.ReplaceAll(arg, "␣", " "))
		}
		if ok := atonce.Parses(args, getenv); ok != test.want {
			t.Errorf("%q with %q is done here: %v", test.args, test.set, ok)
		}
	}
}

func TestRequestIsJSON(t *testing.T) {
	type request struct {
		AttachStdout, AttachStderr bool
		User, WorkingDir           string
		Env, Cmd                   []string
	}
	err := quick.Check(func(user, dir string, env, command []string) bool {
		if len(env) == 0 {
			env = nil
		}
		var got request
		err := json.Unmarshal(atonce.Request(user, dir, env, command), &got)
		if command == nil {
			command = []string{}
		}
		return err == nil && reflect.DeepEqual(got, request{true, true, user, dir, env, command})
	}, nil)
	if bad := (*quick.CheckError)(nil); errors.As(err, &bad) {
		t.Errorf("%q", bad.In)
	}
}
