package porttest

import (
	"context"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// RuntimeRig is what the contract of [engine.Runtime] is tried on. Root file
// systems have sh, sleep, true and cat in PATH and a plain file /etc/passwd.
type RuntimeRig interface {
	Runtime() engine.Runtime
	// Bundle describes a container that runs a command; it has no network.
	Bundle(t *testing.T, command ...string) moss.Bundle
	// Launch runs the command of Prepare as the container's unit does.
	Launch(t *testing.T, id moss.ContainerID, l moss.Launch) error
	// Wait waits for the end of the container's process and returns the exit code.
	Wait(t *testing.T, id moss.ContainerID) int
	// Left tells what the runtime keeps, files and processes.
	Left(t *testing.T) []string
}

const runtimePatience = 20 * time.Second

// Runtime runs the contract suite of [engine.Runtime]. open is called once a test.
func Runtime(t *testing.T, open func(t *testing.T) RuntimeRig) {
	t.Run("a container runs from start, not before", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sh", "-c", "exit 7")
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		if code := r.Wait(t, b.Container.ID); code != 7 {
			t.Errorf("exit code %d, want 7", code)
		}
		if err := r.Runtime().Failure(&b.Container); err != nil {
			t.Errorf("nothing failed, and Failure says %v", err)
		}
		remove(t, r, b)
	})

	t.Run("a process is let go once", func(t *testing.T) {
		r := open(t)
		for _, command := range [][]string{{"sleep", "1000"}, {"sh", "-c", "exit 3"}} {
			b := r.Bundle(t, command...)
			create(t, r, b)
			if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
				t.Fatal(err)
			}
			if command[0] == "sh" {
				r.Wait(t, b.Container.ID)
			}
			if err := r.Runtime().Start(t.Context(), &b.Container); moss.ClassOf(err) != moss.Conflict {
				t.Errorf("%q, started again: %v, want Conflict", command, err)
			}
			remove(t, r, b)
		}
	})

	t.Run("delete", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sleep", "1000")
		remove(t, r, b) // nothing there
		create(t, r, b)
		remove(t, r, b) // created
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		remove(t, r, b) // running
		if code := r.Wait(t, b.Container.ID); code != 128+int(syscall.SIGKILL) {
			t.Errorf("a deleted container's process ended with %d, want 137", code)
		}
		remove(t, r, b) // again
	})

	t.Run("a command that cannot run", func(t *testing.T) {
		for command, words := range map[string]string{
			"nope":        `exec: "nope": executable file not found in $PATH`,
			"/nope":       "no such file or directory",
			"/etc/passwd": "permission denied",
		} {
			r := open(t)
			b := r.Bundle(t, command)
			l, err := r.Runtime().Prepare(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Launch(t, b.Container.ID, l); err == nil {
				t.Fatalf("%s: launched", command)
			}
			err = r.Runtime().Failure(&b.Container)
			if err == nil || !strings.Contains(err.Error(), words) || moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%s: Failure says %v (%v), want Invalid with %q", command, err, moss.ClassOf(err), words)
			}
			remove(t, r, b)
			if err := r.Runtime().Failure(&b.Container); err != nil {
				t.Errorf("%s: after the removal Failure says %v", command, err)
			}
		}
	})

	t.Run("prepare refuses what cannot be", func(t *testing.T) {
		for name, tc := range map[string]struct {
			change func(*moss.Container)
			class  moss.Class
		}{
			"runtime": {func(c *moss.Container) { c.Host.Runtime = "other" }, moss.Invalid},
			"user":    {func(c *moss.Container) { c.Config.User = "nosuchuser" }, moss.Invalid},
			"command": {func(c *moss.Container) { c.Path = "" }, moss.Invalid},
			"source": {func(c *moss.Container) {
				c.Mounts = []moss.MountPoint{{Type: moss.MountBind, Source: "/no/such/source", Target: "/x"}}
			}, moss.Invalid},
		} {
			r := open(t)
			b := r.Bundle(t, "true")
			tc.change(&b.Container)
			if check, ok := r.Runtime().(engine.MountChecker); ok {
				if err := check.CheckMounts(b.Container.Mounts); (err != nil) != (name == "source") || err != nil && moss.ClassOf(err) != moss.Invalid {
					t.Errorf("%s: CheckMounts says %v", name, err)
				}
			}
			if _, err := r.Runtime().Prepare(t.Context(), b); err == nil || moss.ClassOf(err) != tc.class {
				t.Errorf("%s: got %v (%v), want %v", name, err, moss.ClassOf(err), tc.class)
			}
			remove(t, r, b)
		}
	})

	t.Run("exec", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sleep", "1000")
		if _, err := execIn(t, r, b, moss.ChildStdio{}, "true"); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("in a container that is not there: %v, want Conflict", err)
		}
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		for _, code := range []int{0, 1, 42, 255} {
			p, err := execIn(t, r, b, moss.ChildStdio{}, "sh", "-c", "exit "+strconv.Itoa(code))
			if err != nil {
				t.Fatal(err)
			}
			if got := waitExec(t, p); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("a signal to an ended exec: %v", err)
			}
		}
		remove(t, r, b)
	})

	t.Run("an exec can be signalled and dies with its container", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sleep", "1000")
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		p, err := execIn(t, r, b, moss.ChildStdio{}, "sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		if p.PID() <= 0 {
			t.Errorf("pid %d", p.PID())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Wait(ctx); err == nil {
			t.Error("Wait with an ended context returned nil while the process runs")
		}
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := waitExec(t, p); code != 128+int(syscall.SIGTERM) {
			t.Errorf("exit code %d after SIGTERM, want 143", code)
		}
		if p, err = execIn(t, r, b, moss.ChildStdio{}, "sleep", "1000"); err != nil {
			t.Fatal(err)
		}
		remove(t, r, b)
		if code := waitExec(t, p); code != 128+int(syscall.SIGKILL) {
			t.Errorf("exit code %d with the container gone, want 137", code)
		}
	})

	t.Run("a health check that a daemon left is ended, and no other exec", func(t *testing.T) {
		r := open(t)
		ender, ok := r.Runtime().(engine.ProbeEnder)
		if !ok {
			t.Skip("it cannot")
		}
		b := r.Bundle(t, "sleep", "1000")
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		other, err := execIn(t, r, b, moss.ChildStdio{}, "sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		e := &moss.Exec{ID: moss.ExecID(moss.NewHexID()), Container: b.Container.ID, Config: moss.ExecConfig{Cmd: []string{"sleep", "1000"}}, Probe: true}
		probe, err := r.Runtime().Exec(t.Context(), &b.Container, e, moss.ChildStdio{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is none
			if err := ender.EndProbes(t.Context(), b.Container.ID); err != nil {
				t.Fatal(err)
			}
		}
		if code := waitExec(t, probe); code != 128+int(syscall.SIGKILL) {
			t.Errorf("exit code %d, want 137", code)
		}
		late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := other.Wait(late); err == nil {
			t.Error("the other exec has ended too")
		}
		if probe, err = r.Runtime().Exec(t.Context(), &b.Container, e, moss.ChildStdio{}); err != nil {
			t.Fatal(err)
		}
		if err := probe.(engine.GroupKiller).KillGroup(); err != nil {
			t.Fatal(err)
		}
		if code := waitExec(t, probe); code != 128+int(syscall.SIGKILL) {
			t.Errorf("exit code %d of a killed group, want 137", code)
		}
		if err := probe.(engine.GroupKiller).KillGroup(); err != nil {
			t.Errorf("KillGroup of an ended process: %v", err)
		}
		remove(t, r, b)
	})

	t.Run("an exec has its streams", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sleep", "1000")
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		in, out := pipe(t), pipe(t)
		p, err := execIn(t, r, b, moss.ChildStdio{Stdin: in.r, Stdout: out.w}, "cat")
		in.r.Close()
		out.w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.w.WriteString("through\x00and back"); err != nil {
			t.Fatal(err)
		}
		in.w.Close()
		got, err := io.ReadAll(out.r)
		if err != nil || string(got) != "through\x00and back" {
			t.Errorf("got %q, %v", got, err)
		}
		if code := waitExec(t, p); code != 0 {
			t.Errorf("exit code %d", code)
		}
		remove(t, r, b)
	})

	t.Run("an exec of a command that cannot run", func(t *testing.T) {
		r := open(t)
		b := r.Bundle(t, "sleep", "1000")
		create(t, r, b)
		if err := r.Runtime().Start(t.Context(), &b.Container); err != nil {
			t.Fatal(err)
		}
		for command, words := range map[string]string{
			"nope":        `exec: "nope": executable file not found in $PATH`,
			"/nope":       "no such file or directory",
			"/etc/passwd": "permission denied",
		} {
			_, err := execIn(t, r, b, moss.ChildStdio{}, command)
			if err == nil || !strings.Contains(err.Error(), words) || moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%s: %v (%v), want Invalid with %q", command, err, moss.ClassOf(err), words)
			}
		}
		remove(t, r, b)
	})
}

// create brings a container to where its process waits for start.
func create(t *testing.T, r RuntimeRig, b moss.Bundle) {
	t.Helper()
	l, err := r.Runtime().Prepare(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Args) == 0 || !strings.HasPrefix(l.Args[0], "/") || l.PIDFile == "" {
		t.Fatalf("launch %+v: want an absolute path and a pid file", l)
	}
	if err := r.Launch(t, b.Container.ID, l); err != nil {
		t.Fatalf("launch: %v; Failure says: %v", err, r.Runtime().Failure(&b.Container))
	}
}

// remove deletes a container and looks that nothing is left.
func remove(t *testing.T, r RuntimeRig, b moss.Bundle) {
	t.Helper()
	if err := r.Runtime().Delete(context.WithoutCancel(t.Context()), &b.Container); err != nil {
		t.Fatal(err)
	}
	if left := r.Left(t); slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, string(b.Container.ID)) }) {
		t.Errorf("left after delete: %q", left)
	}
}

func execIn(t *testing.T, r RuntimeRig, b moss.Bundle, io moss.ChildStdio, command ...string) (moss.Process, error) {
	t.Helper()
	e := &moss.Exec{ID: moss.ExecID(moss.NewHexID()), Container: b.Container.ID, Config: moss.ExecConfig{Cmd: command}}
	return r.Runtime().Exec(t.Context(), &b.Container, e, io)
}

func waitExec(t *testing.T, p moss.Process) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runtimePatience)
	defer cancel()
	code, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

type pipeEnds struct{ r, w *os.File }

func pipe(t *testing.T) pipeEnds {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return pipeEnds{r, w}
}
