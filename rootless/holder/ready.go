package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// readiness finds out when rootlesskit's parent is through with its set-up: it
// blocks from there on, and its API socket is the last thing it makes.
type readiness struct {
	stateDir string
	notify   string // $NOTIFY_SOCKET
	log      *slog.Logger
	info     func() rootless.Info
	wayOut   func() error // sets the way out up; nil for none is wanted
	outward  *rootless.WayOut
}

// watch starts to look and returns at once. The channel gives one value: nil when
// info.json is written and the service manager told, or why that cannot be. It is
// closed without one when ctx ends first.
func (r readiness) watch(ctx context.Context) (<-chan error, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", r.stateDir, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, r.stateDir, unix.IN_CREATE); err != nil {
		events.Close()
		return nil, fmt.Errorf("cannot watch %s: %w", r.stateDir, err)
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { events.Close() })
	go func() {
		defer close(done)
		defer events.Close()
		defer stop()
		err := r.await(ctx, events)
		if ctx.Err() == nil {
			done <- err
		}
	}()
	return done, nil
}

func (r readiness) await(ctx context.Context, events *os.File) error {
	sock := filepath.Join(r.stateDir, rootless.APISockFile)
	buf := make([]byte, 4096)
	for {
		if _, err := os.Lstat(sock); err == nil {
			break
		}
		if _, err := events.Read(buf); err != nil {
			return fmt.Errorf("cannot watch %s: %w", r.stateDir, err)
		}
	}
	if err := dialable(ctx, sock); err != nil {
		return err
	}
	info := r.info()
	if r.wayOut != nil {
		if err := r.wayOut(); err != nil {
			r.log.Warn("TCP goes out through the network driver", "error", err)
			info.WayOutWhy = err.Error()
		} else {
			info.WayOut = r.outward
		}
	}
	if err := rootless.WriteInfo(info); err != nil {
		return err
	}
	r.log.Info("namespaces are ready", "network", info.NetworkDriver, "why", info.Why, "childPID", info.ChildPID)
	r.tell(daemon.SdNotifyReady + "\nSTATUS=" + info.NetworkDriver + " (" + info.Why + ")")
	return nil
}

// dialable waits the moment between the socket's bind and its listen.
func dialable(ctx context.Context, sock string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", sock)
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("cannot reach the ports API: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// tell sends a state to the service manager, if there is one.
func (r readiness) tell(state string) {
	if r.notify == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: r.notify, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		r.log.Warn("cannot tell the service manager", "state", state, "error", err)
	}
}
