package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// clearing makes the test binary a process with children that it clears away.
const clearing = "PROCESS_TEST_CLEAR"

func TestMain(m *testing.M) {
	if os.Getenv(clearing) == "" {
		os.Exit(m.Run())
	}
	for _, args := range [][]string{{"true"}, {"sleep", "1000"}, {"sh", "-c", "trap '' TERM; exec sleep 1000"}} {
		if err := exec.Command(args[0], args[1:]...).Start(); err != nil {
			os.Exit(1)
		}
	}
	Clear()
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		os.Exit(2)
	}
	os.Exit(0)
}

func TestClear(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), clearing+"=1")
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}
