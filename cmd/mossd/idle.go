package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/network"
	"github.com/moss-containers/moss/pkg/stdio"
	"github.com/moss-containers/moss/rootless"
)

// errIdle ends a daemon that has had nothing to do for the time of idle-timeout.
var errIdle = errors.New("the engine is idle")

// idleStatus is what it exits with then; moss.service does not start it again for it.
const idleStatus = 100

// watchedEnds are the ends of the names in the descriptor store whose files
// call for the daemon when they are readable.
var watchedEnds = []string{".out", ".err", ".tty", ".dns"}

// fdStore is the service manager's descriptor store, for streams and resolvers.
type fdStore interface {
	stdio.Store
	network.Sockets
}

// idleSource is something that can keep the daemon from being idle: it tells
// when that last was, or that it is so now.
type idleSource struct {
	what  string
	quiet func() (last time.Time, quiet bool)
}

// awaitIdle returns errIdle once all sources have been quiet for as long as the
// setting says.
func (d *daemon) awaitIdle(ctx context.Context, timeout time.Duration) error {
	since := time.Now()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		wait := timeout
		for _, s := range d.sources {
			last, quiet := s.quiet()
			if !quiet {
				last = time.Now()
				wait = max(timeout/8, time.Second/8) // it does not tell when it is over
				d.log.Debug("the engine is not idle", "because", s.what)
			}
			if last.After(since) {
				since = last
			}
		}
		if wait = min(wait, timeout-time.Since(since)); wait <= 0 {
			return errIdle
		}
		timer.Reset(wait)
	}
}

// activated says whether a manager listens for the daemon while it is away.
func (d *daemon) activated() bool { return len(d.files.Listeners(d.cfg.Prefix+".socket")) > 0 }

// canLeave says why an idle daemon has to stay; nil when it may end.
func (d *daemon) canLeave(ctx context.Context) error {
	switch {
	case !d.sd.Managed() || !d.activated():
		return errors.New("no service manager listens for it")
	case !d.keeper.Available():
		return fmt.Errorf("%s-rootless.service was started by an older moss; it takes a restart", d.cfg.Prefix)
	}
	if err := d.stores.await(ctx); err != nil {
		return err
	}
	if program := d.stores.rootfs.MountProgram(); program != "" && !underService && d.mounts == "" {
		return fmt.Errorf("root file systems are mounted by processes of its unit, %s", program)
	}
	return nil
}

// leave gives into the holder's keeping what the daemon holds for running
// containers, and has it watch what calls for the daemon: output, queries for
// names, and the ends of processes. Afterwards the daemon may end. It fails
// where something has changed since all was quiet: then it must start again.
func (d *daemon) leave(ctx context.Context, wake string) (err error) {
	var files []rootless.Kept
	defer func() {
		for _, f := range files {
			_ = f.File.Close() // the holder has its own
		}
	}()
	if d.engine.Busy() {
		return errors.New("the engine has something to do")
	}
	info, err := d.engine.System().Info(ctx)
	if err != nil {
		return err
	}
	units, err := d.units.List(ctx)
	if err != nil {
		return err
	}
	if info.Containers[moss.StateRestarting] > 0 || info.Containers[moss.StateRunning]+info.Containers[moss.StatePaused] != len(units) {
		return errors.New("a container has ended, or is due to start")
	}
	for _, u := range units {
		if u.Phase != moss.UnitRunning || u.PID == 0 {
			return fmt.Errorf("the unit %s is %s", u.Short, u.Phase)
		}
		fd, err := unix.PidfdOpen(u.PID, unix.PIDFD_NONBLOCK)
		if err != nil {
			return fmt.Errorf("cannot watch the process of %s: %w", u.Short, err)
		}
		files = append(files, rootless.Kept{File: os.NewFile(uintptr(fd), "pidfd"), Watch: true})
	}
	if again, err := d.units.List(ctx); err != nil || !slices.Equal(again, units) {
		return errors.Join(errors.New("containers have ended meanwhile"), err)
	}
	stored, err := d.recorder.Contents()
	for _, s := range stored {
		files = append(files, rootless.Kept{Name: s.Name, File: s.File, Watch: slices.Contains(watchedEnds, filepath.Ext(s.Name))})
	}
	if err != nil {
		return err
	}
	return d.keeper.Give(ctx, files, wake)
}

// takeBack takes over what the holder has kept since the daemon before was
// idle: into the manager's store, where a restart finds it, and as if it came
// from there.
func (d *daemon) takeBack(ctx context.Context) error {
	if !d.keeper.Available() {
		return nil
	}
	kept, err := d.keeper.Take(ctx)
	if err != nil {
		return err
	}
	if len(kept) == 0 {
		return d.keeper.Drop(ctx)
	}
	known := map[string]bool{} // a daemon that was killed in the middle of this
	var errs []error
	for _, k := range kept {
		if _, ok := known[k.Name]; !ok {
			known[k.Name] = d.files.Has(k.Name)
		}
		if known[k.Name] {
			errs = append(errs, k.File.Close())
			continue
		}
		errs = append(errs, d.sd.Put(k.Name, k.File), d.files.Add(k.Name, k.File))
	}
	if err := errors.Join(append(errs, d.sd.Barrier(ctx))...); err != nil {
		return fmt.Errorf("cannot take over what the holder has kept: %w", err)
	}
	return d.keeper.Drop(ctx)
}

// ignoreIdle is nil for errIdle alone.
func ignoreIdle(err error) error {
	if errors.Is(err, errIdle) {
		return nil
	}
	return err
}

// wakeAddress is the socket to connect to for the daemon to come back.
func wakeAddress(listeners []net.Listener) string { return listeners[0].Addr().String() }
