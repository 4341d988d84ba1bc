package e2e

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/tests/plugin"
	"github.com/moss-containers/moss/tests/registry"
)

// patience is how long wait-for and the leak check wait for what must come.
const patience = time.Minute

// serial keeps scripts one after the other: they share one engine, and what
// each leaves behind is counted.
type serial struct{ *testing.T }

func (serial) Parallel()       {}
func (s serial) Verbose() bool { return testing.Verbose() }
func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

func TestScripts(t *testing.T) { runScripts(t, "../script", "") }

// TestCompose drives the engine with docker's compose, which takes minutes to build (make compose).
func TestCompose(t *testing.T) {
	dir := os.Getenv("MOSS_COMPOSE")
	if dir == "" {
		t.Skip("docker's compose is built by make compose")
	}
	runScripts(t, "../compose", filepath.Join(suite.bin, dir))
}

// TestSealed takes a systemd of 256 or later, which seals for users (make debian13).
func TestSealed(t *testing.T) {
	if os.Getenv("MOSS_SEALED") == "" {
		t.Skip("a suite of its own: make debian13")
	}
	runScripts(t, "../sealed", "")
}

// runScripts runs the scripts of a directory, with another one in front of their PATH.
func runScripts(t *testing.T, dir, path string) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		"status":      cmdStatus,
		"wait-for":    cmdWaitFor,
		"container":   cmdContainer,
		"kill-engine": cmdKillEngine,
		"leak-check":  cmdLeakCheck,
		"settings":    cmdSettings,
		"collector":   cmdCollector,
		"swap":        cmdSwap,
	}
	maps.Copy(cmds, registry.Commands())
	maps.Copy(cmds, plugin.Commands(prefix))
	testscript.RunT(serial{t}, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, suite.env()...)
			env.Vars = append(env.Vars, "HOME="+env.WorkDir)
			if withoutSystemd {
				standIn, err := filepath.Abs("testdata/nosystemd")
				if err != nil {
					return err
				}
				env.Setenv("PATH", standIn+":"+env.Getenv("PATH"))
			}
			if path != "" {
				env.Setenv("PATH", path+":"+env.Getenv("PATH"))
			}
			before, err := suite.census()
			if err != nil {
				return err
			}
			env.Values[censusKey{}] = before
			env.Defer(func() { endOfScript(env, before) })
			return os.Symlink(filepath.Join(suite.top, "busybox.tar"), filepath.Join(env.WorkDir, "busybox.tar"))
		},
		Cmds: cmds,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "rig":
				return os.Getenv("MOSS_RIG_SOCKET") != "", nil
			case "systemd":
				return !withoutSystemd, nil
			}
			return false, errors.New("unknown condition " + cond)
		},
	})
}

// endOfScript fails a script that left something, and clears it for the next. Of
// one that failed, what it leaves says nothing, but what the engine logged may.
func endOfScript(env *testscript.Env, before census) {
	t := env.T().(serial).T
	failed := t.Failed()
	if failed {
		journal, _ := suite.output("journalctl", "--user", "--no-pager", "-n", "60", "-o", "short-precise", "-u", prefix+".service")
		t.Log(journal)
	} else if err := suite.settled(before); err != nil {
		t.Error(err)
	}
	ids, err := suite.output("docker", "ps", "--all", "--quiet", "--no-trunc")
	if err != nil {
		t.Error(err)
		return
	}
	for id := range strings.FieldsSeq(ids) {
		if before.has("record", id) {
			continue
		}
		if _, err := suite.output("docker", "rm", "--force", "--volumes", id); err != nil {
			t.Error(err)
		}
	}
	if failed { // nor its networks
		if _, err := suite.output("docker", "network", "prune", "--force"); err != nil {
			t.Error(err)
		}
	}
}

// status N COMMAND ARG…: the command must end with exactly this exit status.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: status N command arg…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// wait-for REGEXP COMMAND ARG…: until the command succeeds and its output
// matches; with ! until it does not.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] wait-for regexp command arg…")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		out, err := command(ts, args[1], args[2:]...).CombinedOutput()
		if neg != (err == nil && re.Match(out)) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited %s in vain; last: %v\n%s", patience, err, out)
		}
	}
}

// container NAME: sets ID, UNIT and PID to those of a container.
func cmdContainer(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: container name")
	}
	out, err := command(ts, "docker", "inspect", "--format", "{{.Id}} {{.State.Pid}}", args[0]).Output()
	ts.Check(err)
	id, pid, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if len(id) != 64 {
		ts.Fatalf("%q is no container id", id)
	}
	ts.Setenv("ID", id)
	ts.Setenv("UNIT", prefix+"-"+id[:12]+".service")
	ts.Setenv("PID", pid)
}

// kill-engine: kill -9 of the daemon; returns when its successor answers.
func cmdKillEngine(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: kill-engine")
	}
	ts.Check(suite.kill())
}

// settings DIR: for the rest of the script the files in it, with $NAMES
// replaced, are the user's configuration, and the engine has started with them.
func cmdSettings(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: settings directory")
	}
	from, to := ts.MkAbs(args[0]), ts.Getenv("XDG_CONFIG_HOME")
	ts.Defer(func() { restart(ts) }) // after the files have gone: the first that is deferred is the last
	// systemd's own files there stay as they are.
	for _, name := range []string{prefix, "containers", "docker"} {
		place := filepath.Join(to, name)
		if _, err := os.Lstat(place); !errors.Is(err, fs.ErrNotExist) {
			ts.Fatalf("%s is there already: %v", place, err)
		}
		ts.Defer(func() { ts.Check(os.RemoveAll(place)) })
	}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, os.Expand(strings.TrimPrefix(path, from), ts.Getenv))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return err
		}
		return os.WriteFile(at, []byte(os.Expand(string(text), ts.Getenv)), 0o600)
	})
	ts.Check(err)
	restart(ts)
}

// swap NAME OTHER…: a name stands for itself and for each of the others in turn,
// as often as can be, and is never absent; ! swap NAME ends it.
func cmdSwap(ts *testscript.TestScript, neg bool, args []string) {
	if neg != (len(args) == 1) || len(args) == 0 {
		ts.Fatalf("usage: swap name other…, then ! swap name")
	}
	end := swaps[args[0]]
	if neg == (end == nil) {
		ts.Fatalf("%s is swapped: %t", args[0], !neg)
	}
	if neg {
		ts.Check(end())
		return
	}
	paths := make([]string, len(args))
	for i, name := range args {
		paths[i] = ts.MkAbs(name)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- swap(paths[0], paths[1:], stop) }()
	swaps[args[0]] = func() error {
		delete(swaps, args[0])
		close(stop)
		return <-ended
	}
	ts.Defer(func() {
		if end := swaps[args[0]]; end != nil {
			ts.Check(end())
		}
	})
}

// swaps end what cmdSwap has begun, by name; scripts run one after the other.
var swaps = map[string]func() error{}

func swap(name string, others []string, stop <-chan struct{}) error {
	for {
		for _, other := range others {
			for range 2 { // there and back
				if err := unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
					return err
				}
			}
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

// restart ends the daemon as systemctl does; it returns when the next one answers.
func restart(ts *testscript.TestScript) {
	if withoutSystemd {
		ts.Check(suite.signalDaemon(unix.SIGTERM))
		return
	}
	_, err := suite.output("systemctl", "--user", "restart", prefix+".service")
	ts.Check(err)
	_, err = suite.output("docker", "version")
	ts.Check(err)
}

// leak-check: nothing more is there than when the script began.
func cmdLeakCheck(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: leak-check")
	}
	ts.Check(suite.settled(ts.Value(censusKey{}).(census)))
}

// command prepares a command with the script's environment, directory and
// path.
func command(ts *testscript.TestScript, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/env", append([]string{name}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{
		"PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
		"XDG_DATA_HOME", "XDG_CONFIG_HOME", "PREFIX", "ID", "UNIT", "PID",
		"MOSS_NOSYSTEMD", "SERVICE_LOG",
	} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	return cmd
}
