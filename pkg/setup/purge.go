package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/names"
)

// purgeTimeout bounds the start of the namespaces that a purge needs.
const purgeTimeout = 30 * time.Second

// purge deletes directories. What containers wrote belongs to subordinate ids,
// which only root of a user namespace that maps them can delete: so where the
// user's own right does not reach, it is done in namespaces held for just that.
func purge(ctx context.Context, binDir string, dirs []string) error {
	var left []string
	for _, dir := range dirs {
		if os.RemoveAll(dir) != nil {
			left = append(left, dir)
		}
	}
	if len(left) == 0 {
		return nil
	}
	top, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "moss-purge-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	state := filepath.Join(top, "ns")
	stop, err := hold(ctx, filepath.Join(binDir, names.Rootless), state, filepath.Join(top, "notify"))
	if err != nil {
		return moss.Wrap(err, "enter a user namespace to delete what containers left", "")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, names.Daemon), append([]string{"purge"}, left...)...)
	cmd.Env = append(os.Environ(), "_MOSS_JOIN="+state)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return errors.Join(err, stop())
}

// hold starts a holder without a network and returns when its namespaces are
// ready; stop ends it.
func hold(ctx context.Context, program, state, notify string) (stop func() error, err error) {
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	if err := ready.SetReadDeadline(time.Now().Add(purgeTimeout)); err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-state-dir", state, "-net", "none")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = ready.Close() // ends the wait for a word of a process that is gone
	}()
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return <-ended
	}
	for buf := make([]byte, 4096); ; {
		n, err := ready.Read(buf)
		if err != nil {
			return nil, errors.Join(err, stop(), errors.New(said.String()))
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			return stop, nil
		}
	}
}
