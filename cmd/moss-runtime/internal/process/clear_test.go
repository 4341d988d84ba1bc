package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// acting makes the test binary a process with children that it clears away or reaps.
const acting = "PROCESS_TEST_CHILDREN"

func TestMain(m *testing.M) {
	act := map[string]func() error{"clear": clears, "reap": reaps}[os.Getenv(acting)]
	if act == nil {
		os.Exit(m.Run())
	}
	if err := act(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func clears() error {
	for _, args := range [][]string{{"true"}, {"sleep", "1000"}, {"sh", "-c", "trap '' TERM; exec sleep 1000"}} {
		if err := exec.Command(args[0], args[1:]...).Start(); err != nil {
			return err
		}
	}
	Clear()
	return noChild()
}

func noChild() error {
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("there is a child still: %d, %w", pid, err)
	}
	return nil
}

// reaps has one that goes on, one that has ended and one more, which is kept.
func reaps() error {
	var pids []int
	for _, args := range [][]string{{"sleep", "1000"}, {"true"}, {"true"}} {
		cmd := exec.Command(args[0], args[1:]...)
		if err := cmd.Start(); err != nil {
			return err
		}
		pids = append(pids, cmd.Process.Pid)
	}
	for _, pid := range pids[1:] {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			return err
		}
	}
	Reap(pids[2])
	if _, err := unix.Wait4(pids[1], nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("what has ended is there: %w", err)
	}
	if pid, err := unix.Wait4(pids[2], nil, unix.WNOHANG, nil); pid != pids[2] {
		return fmt.Errorf("what was to be kept is not: %w", err)
	}
	if pid, err := unix.Wait4(pids[0], nil, unix.WNOHANG, nil); pid != 0 || err != nil {
		return fmt.Errorf("what goes on is not left alone: %d, %w", pid, err)
	}
	Clear()
	return noChild()
}

func TestClear(t *testing.T) { act(t, "clear") }

func TestReap(t *testing.T) { act(t, "reap") }

func act(t *testing.T, how string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), acting+"="+how)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
