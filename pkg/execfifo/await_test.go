package execfifo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a container's init may do; the fifo is its descriptor 3, as libcontainer's has it.
const (
	writes   = `printf 0 >/proc/self/fd/3; exec 3>&-; exec sleep 1000`
	dies     = `exit 1`
	waits    = `exec sleep 1000`
	neverHas = `exec 3>&-; exec sleep 1000`
)

func start(t *testing.T, script string) (pid, pidfd, fifo int, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "exec.fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	held, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := os.NewFile(uintptr(held), path)
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = []*os.File{own}
	if err := errors.Join(cmd.Start(), own.Close()); err != nil {
		t.Fatal(err)
	}
	pidfd, err = unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		_ = unix.Close(fifo)
		_ = unix.Close(pidfd)
	})
	return cmd.Process.Pid, pidfd, fifo, path
}

func TestAwait(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		want   error
	}{
		"written": {writes, nil},
		"ended":   {dies, ErrEnded},
		"gone":    {neverHas, ErrGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid, pidfd, fifo, _ := start(t, tc.script)
			if err := Await(t.Context(), pid, pidfd, fifo); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

// Somebody else took the byte, and the writer has gone.
func TestAwaitTaken(t *testing.T) {
	pid, pidfd, fifo, path := start(t, neverHas)
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Await(t.Context(), pid, pidfd, fifo); !errors.Is(err, ErrTaken) && !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

// While init has the fifo it is waited for, as long as the caller waits.
func TestAwaitIsPatient(t *testing.T) {
	pid, pidfd, fifo, path := start(t, waits)
	ctx, cancel := context.WithTimeout(t.Context(), 3*grace)
	defer cancel()
	if !Held(pid, fifo) {
		t.Error("init has it, and is said not to")
	}
	if err := Await(ctx, pid, pidfd, fifo); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the caller's deadline", err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte("0")); err != nil {
		t.Fatal(err)
	}
	if err := Await(t.Context(), pid, pidfd, fifo); err != nil {
		t.Error(err)
	}
}
