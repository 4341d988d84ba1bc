// Command rig boots real systemd in namespaces, with an unprivileged user in
// it, over a copy-on-write view of the machine's own files. The project's
// tests run in it where the machine has no user manager.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/tests/rig"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const usage = `usage:
  rig up NAME [--for PID]     boot; with --for it goes when that process does   (root)
  rig down NAME               end it and remove all of it
  rig reboot NAME             kill every process in it, boot again over the same /home
  rig user NAME [COMMAND…]    a shell command line as the rig's user; a shell without one
  rig root NAME [COMMAND…]    the same as root of the rig
  rig exec NAME BINARY ARG…   copy BINARY in and run it as the user, in the same
                              directory of the checkout (go test -exec)
  rig sweep                   remove what crashed rigs have left                 (root)
`

// Namespaces and the parent-death signal belong to a thread: everything below
// main that makes or enters one must stay on the first.
func init() { runtime.LockOSThread() }

func main() {
	err := run(os.Args[1:])
	if exit, ok := errors.AsType[*rig.ExitError](err); ok {
		os.Exit(exit.Code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(125)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "sweep" {
		return sweep()
	}
	if len(args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		return &rig.ExitError{Code: 2}
	}
	verb, name, rest := args[0], args[1], args[2:]
	if verb == bootArg {
		return bootInside(name, rest)
	}
	if err := rig.CheckName(name); err != nil {
		return err
	}
	switch verb {
	case "up":
		return up(name, rest)
	case superviseArg:
		return supervise(name, rest)
	case "down":
		return down(name)
	case "reboot":
		return rig.Do(context.Background(), socket(name), rig.Request{Verb: rig.Reboot, Rig: name}, nil, nil)
	case "user", "root":
		return shell(name, verb == "root", rest)
	case "exec":
		if len(rest) == 0 {
			return errors.New("exec needs a binary to run")
		}
		return execBinary(name, rest)
	}
	fmt.Fprint(os.Stderr, usage)
	return &rig.ExitError{Code: 2}
}

// socket finds the supervisor from outside a rig and from inside one.
func socket(name string) string {
	if s := os.Getenv(rig.SocketEnv); s != "" {
		return s
	}
	return rig.Socket(name)
}

// up starts the supervisor in a session of its own and waits until the rig
// stands.
func up(name string, rest []string) error {
	if os.Geteuid() != 0 {
		return errors.New("up needs root: it makes namespaces and a cgroup")
	}
	super := []string{superviseArg, name}
	var extra []*os.File
	if len(rest) == 2 && rest[0] == "--for" {
		pid, err := strconv.Atoi(rest[1])
		if err != nil {
			return fmt.Errorf("--for: %w", err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("--for %d: %w", pid, err)
		}
		extra = append(extra, os.NewFile(uintptr(fd), "pidfd"))
		super = append(super, "--for")
	} else if len(rest) > 0 {
		return fmt.Errorf("unknown arguments %q", rest)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, super...)
	cmd.Dir = "/"
	cmd.Stdout = w // one line of error, or nothing: then it stands
	cmd.ExtraFiles = extra
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if wd, err := repoRoot(); err == nil {
		cmd.Env = append(os.Environ(), srcEnv+"="+wd)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.Close()
	buf := make([]byte, 64<<10)
	n, _ := r.Read(buf) // end of file without a word: the supervisor died
	switch msg := string(buf[:n]); msg {
	case ready:
		return nil
	case "":
		return fmt.Errorf("the supervisor of rig %q died: %w", name, cmd.Wait())
	default:
		return errors.New(strings.TrimSpace(msg))
	}
}

func shell(name string, root bool, rest []string) error {
	req := rig.Request{Verb: rig.Run, Rig: name, Root: root, Argv: []string{"/bin/bash", "-l"}}
	if len(rest) > 0 {
		req.Argv = []string{"/bin/bash", "-c", strings.Join(rest, " ")}
	}
	req.TTY = term.IsTerminal(0) && term.IsTerminal(1)
	if t := os.Getenv("TERM"); t != "" && req.TTY {
		req.Env = append(req.Env, "TERM="+t)
	}
	sigs, stop := rig.Forwarded()
	defer stop()
	return rig.Do(context.Background(), socket(name), req, stdio(), sigs)
}

func execBinary(name string, rest []string) error {
	bin, err := os.Open(rest[0])
	if err != nil {
		return err
	}
	defer bin.Close()
	req := rig.Request{Verb: rig.Run, Rig: name, Upload: true, Argv: rest, Env: passedOn(os.Environ())}
	if root, err := repoRoot(); err == nil {
		wd, err := os.Getwd()
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(root, wd); err == nil && filepath.IsLocal(rel) {
			req.Dir = filepath.Join(srcDir, rel)
		}
	}
	sigs, stop := rig.Forwarded()
	defer stop()
	return rig.Do(context.Background(), socket(name), req, append(stdio(), bin), sigs)
}

func stdio() []*os.File { return []*os.File{os.Stdin, os.Stdout, os.Stderr} }

// passedOn picks the variables that mean the same inside the rig; all others
// are the host's business.
func passedOn(env []string) []string {
	names := []string{"GODEBUG", "GOTRACEBACK", "GOMAXPROCS", "GORACE", "GOGC", "LANG", "LC_ALL", "CI", "TZ"}
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		own := k == rig.SocketEnv || k == srcEnv || k == "MOSS_BIN"
		return own || (!strings.HasPrefix(k, "MOSS_") && !slices.Contains(names, k))
	})
}

// repoRoot is the checkout the caller stands in.
func repoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside a checkout of moss")
		}
		dir = parent
	}
}
