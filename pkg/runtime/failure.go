package runtime

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxLog is how much of the end of a log is looked at, in bytes.
const maxLog = 64 << 10

// Failure reads why the command of Prepare failed; nil when it says nothing.
func (r *Runtime) Failure(c *moss.Container) error {
	msg := lastError(r.file(c.ID, createLog))
	err := workdirFailure(c, msg)
	if err == nil {
		err = translate(msg)
	}
	if err == nil {
		return nil
	}
	return moss.Errorf(moss.ClassOf(err), "failed to create task for container: OCI runtime create failed: %w", err)
}

// lastError is the message of the last error in a log of JSON lines, as runc,
// crun and moss-runtime write them; "" where there is none.
func lastError(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > maxLog {
		if _, err := f.Seek(-maxLog, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return ""
	}
	last := ""
	for line := range strings.Lines(string(data)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue // cut off by the limit, or by a kill
		}
		switch entry.Level {
		case "error", "fatal", "panic":
			last = entry.Msg
		}
	}
	return last
}

// The words for a command that cannot be run. Docker's clients make exit code
// 127 of the first two and 126 of the others.
var commandFailures = []*regexp.Regexp{
	regexp.MustCompile(`exec: ".*": executable file not found in \$PATH`),
	regexp.MustCompile(`exec: ".*": stat .*: no such file or directory`),
	regexp.MustCompile(`exec: ".*": permission denied`),
	regexp.MustCompile(`exec: ".*": is a directory`),
	regexp.MustCompile(`exec .*: (exec format error|permission denied|no such file or directory|is a directory|text file busy)`),
	regexp.MustCompile(`chdir to cwd .*: `),
}

// otherWords turns crun's and the kernel's into runc's, which docker's clients
// look for, and says what runc's leave open.
var otherWords = []struct {
	from *regexp.Regexp
	to   string
}{
	// crun: executable file `nope` not found in $PATH: No such file or directory
	{regexp.MustCompile("executable file [`'\"]([^`'\"]*)[`'\"] not found in \\$PATH(: No such file or directory)?"), `exec: "$1": executable file not found in $$PATH`},
	// crun, of a directory
	{regexp.MustCompile("open executable: Operation not permitted"), `exec: permission denied`},
	// crun: open executable: Permission denied
	{regexp.MustCompile("(?:open executable|exec `?[^`]*`?): Permission denied"), `exec: permission denied`},
	{regexp.MustCompile(`No such file or directory`), `no such file or directory`},
	{regexp.MustCompile(`Permission denied`), `permission denied`},
	{regexp.MustCompile(`Exec format error`), `exec format error`},
	// libcontainer, when init died early
	{regexp.MustCompile(`procReady not received`), `procReady not received: its first process ended before it was ready; a limit of processes (--pids-limit) or of memory (--memory) may be too low`},
}

// workdirFailures are the words for a working directory that cannot be made or
// entered: of runc and moss-runtime, then of crun.
var workdirFailures = []*regexp.Regexp{
	regexp.MustCompile(`error during container init: (mkdir .*: [^:]+)$`),
	regexp.MustCompile("^(chdir `.*`: [^:]+)$"),
}

// workdirFailure is a message that tells of a container's working directory; nil of another.
func workdirFailure(c *moss.Container, msg string) error {
	for _, re := range workdirFailures {
		if m := re.FindStringSubmatch(msg); m != nil && c.Config.WorkingDir != "" {
			why := strings.NewReplacer("Not a", "not a", "No such", "no such", "Permission", "permission").Replace(m[1])
			return moss.Errorf(moss.Invalid, "cannot use %s as the working directory of %q: %s", moss.Shown(c.Config.WorkingDir), c.Name, moss.Shown(why))
		}
	}
	return nil
}

// badSysctl is libcontainer's word for a value that the kernel does not take.
var badSysctl = regexp.MustCompile(`failed to write sysctl (\S+) = "(.*)": write .*: (.*)$`)

// sysctlFailures are the other words for a sysctl that cannot be set: of
// moss-runtime, then of runc and crun. Docker's clients would take some of them for
// a program that is not there.
var sysctlFailures = []*regexp.Regexp{
	regexp.MustCompile(`open sysctl (\S+) file: (?:.*: )?([^:]+)$`),
	regexp.MustCompile(`(?:open|write|write to) /proc/sys/(\S+): ([^:]+)$`),
}

// sysctlFailure is the user's mistake that a message tells of; nil for none.
func sysctlFailure(msg string) error {
	if m := badSysctl.FindStringSubmatch(msg); m != nil {
		return moss.Errorf(moss.Invalid, "invalid sysctl %q: the kernel does not take the value %q: %s", m[1], m[2], m[3])
	}
	for _, re := range sysctlFailures {
		m := re.FindStringSubmatch(msg)
		if m == nil {
			continue
		}
		name, why := strings.ReplaceAll(strings.Trim(m[1], "/"), "/", "."), strings.ToLower(m[2])
		switch why {
		case "no such file or directory":
			why = "the kernel has none of this name in the container's namespaces; look at the name and at its network interface, or have the module that brings it loaded on the host (modprobe)"
		case "permission denied":
			why = "it is of the whole machine, and a user cannot change it; leave it out, or have it set on the host"
		case "is a directory":
			why = "it is a group of parameters; name one of them"
		case "invalid argument":
			why = "the kernel does not take the value: invalid argument"
		}
		return moss.Errorf(moss.Invalid, "invalid sysctl %q: %s", name, why)
	}
	return nil
}

// translate makes an error of a runtime's message: Invalid where the user's
// command is at fault, in docker's words; nil of one that says nothing.
func translate(msg string) error {
	msg = moss.Shown(strings.TrimPrefix(strings.TrimSpace(msg), "moss-runtime:"))
	if msg == "" {
		return nil
	}
	for _, w := range otherWords {
		msg = w.from.ReplaceAllString(msg, w.to)
	}
	if err := sysctlFailure(msg); err != nil {
		return err
	}
	for _, re := range commandFailures {
		if re.MatchString(msg) {
			return moss.Errorf(moss.Invalid, "%s: unknown", msg)
		}
	}
	if strings.Contains(msg, "exec: permission denied") {
		return moss.Errorf(moss.Invalid, "%s: unknown", msg)
	}
	return errors.New(msg)
}
