package holder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// On a machine without /etc/hosts there is one for as long as rootlesskit looks,
// and /etc is as it was after that.
func TestStandInHosts(t *testing.T) {
	cmd := command(t, "hosts")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func withoutHosts() error {
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.WriteFile("/etc/other", []byte("x"), 0o600); err != nil {
		return err
	}
	undo, err := standInHosts()
	if err != nil {
		return err
	}
	if text, err := os.ReadFile("/etc/hosts"); err != nil || len(text) != 0 {
		return fmt.Errorf("the stand-in of /etc/hosts is %q: %w", text, err)
	}
	if err := undo(); err != nil {
		return err
	}
	if _, err := os.Stat("/etc/hosts"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("/etc/hosts is still there: %w", err)
	}
	// One that is there is left alone, and so is what lies over it.
	if err := os.WriteFile("/etc/hosts", []byte("own"), 0o600); err != nil {
		return err
	}
	if undo, err = standInHosts(); err != nil {
		return err
	}
	if err := undo(); err != nil {
		return err
	}
	for path, want := range map[string]string{"/etc/hosts": "own", "/etc/other": "x"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			return fmt.Errorf("%s is %q: %w", path, text, err)
		}
	}
	return nil
}
