package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/moss"
)

// drainGrace is how long requests under way get after SIGTERM.
const drainGrace = 3 * time.Second

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, cfg settings) (err error) {
	took := newSteps(time.Now())
	collectAgain := collectLess()
	defer collectAgain()
	signals := make(chan os.Signal, 1) // from here on, none of them ends the daemon
	signal.Notify(signals, unix.SIGHUP, unix.SIGUSR1)
	defer signal.Stop(signals)
	level := new(slog.LevelVar)
	level.Set(cfg.Level())
	log, err := newLog(os.Stderr, cfg.LogFormat, level)
	if err != nil {
		return err
	}
	if err := useProxies(cfg.Proxies, log); err != nil {
		return err
	}
	traces, log := openTraces(ctx, cfg.Prefix, log)
	defer traces.close() //nolint:contextcheck // what is left is sent when ctx is over
	d, err := wire(ctx, cfg, log, level, took, traces)
	isReady, told := false, ctx
	defer func() {
		if err == nil || isReady {
			return
		}
		if told.Err() == nil {
			err = refusal{run: cfg.Run, prefix: cfg.Prefix, files: d.files, manager: d.sd, log: log}.answer(told, err)
		}
		if told.Err() != nil { // what broke off because of that is no failure
			log.Info("the engine was told to end before it was ready", "at", err)
			err = nil
		}
	}()
	if err != nil {
		return err
	}
	defer func() {
		if e := d.close(); e != nil {
			err = errors.Join(ignoreIdle(err), e)
		}
	}()

	fresh, remember, err := newHolder(cfg.Config)
	if err != nil {
		return err
	}
	if err := d.sd.Status("restoring containers"); err != nil {
		return err
	}
	if err := traces.restore(ctx, took, func(ctx context.Context) error { return d.engine.Restore(ctx, fresh) }); err != nil {
		return err
	}
	took.done("restore")
	if err := remember(); err != nil {
		return err
	}
	listeners, err := d.listeners(ctx)
	if err != nil {
		return err
	}

	if cfg.PIDFile != "" {
		remove, err := writePID(cfg.PIDFile)
		if err != nil {
			return err
		}
		d.closer = append(d.closer, remove)
	}

	// The units are watched for a little longer than requests are served, so that
	// the ends of containers that go down with the holder are still written down.
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	d.status = d.serving(listeners)
	var scraped net.Listener
	if d.metrics != nil {
		if scraped, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.MetricsAddress); err != nil {
			return fmt.Errorf("cannot listen for Prometheus at %s: %w", cfg.MetricsAddress, err)
		}
		d.status += ", metrics at " + scraped.Addr().String()
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return ignoreEnd(watching, d.engine.Watch(watching)) })
	if scraped != nil {
		tasks.Go(func() error { return d.metrics.serve(ctx, scraped) })
	}
	tasks.Go(func() error { return ignoreEnd(ctx, d.hearSignals(ctx, signals)) })
	for _, l := range listeners {
		tasks.Go(func() error { return d.api.Serve(ctx, gate{l, d.fds, d.api.DropIdle}, drainGrace) })
	}
	tasks.Go(func() error {
		d.sd.KeepAlive(ctx, d.alive, func(err error) { log.Error("the daemon does not answer its watchdog", "error", err) })
		return nil
	})
	tasks.Go(func() error {
		<-ctx.Done()
		d.engine.Quiesce()
		err := d.sd.Stopping()
		last := context.WithoutCancel(ctx)
		err = errors.Join(err, d.units.Settle(last)) // what the manager has told by now
		if d.host.GoingDown(last) {
			err = errors.Join(err, d.awaitEnds(last))
		}
		stopWatching()
		return err
	})
	if timeout := cfg.Idle(); timeout > 0 {
		tasks.Go(func() error {
			if err := d.canLeave(ctx); err != nil {
				log.Warn("the engine stays when it is idle", "because", err)
				return nil
			}
			return ignoreEnd(ctx, d.awaitIdle(ctx, timeout))
		})
	}
	collectAgain()
	took.done("listeners")
	traces.started(took)
	log.Info("ready", "after", took.total().Round(time.Millisecond), "network", d.holder.NetworkDriver, "steps", took)
	if err := d.sd.Ready(d.status); err != nil {
		return err
	}
	isReady = true
	// A daemon whose store cannot be opened is none: the next one says so to whoever asks.
	tasks.Go(func() error { return ignoreEnd(ctx, d.stores.read(ctx)) })
	if err := started(cfg.Run); err != nil {
		log.Warn("failed starts stay counted", "error", err)
	}
	resting := time.AfterFunc(restAfter, func() { rest(part(log, "memory")) })
	defer resting.Stop()
	err = tasks.Wait()
	if !errors.Is(err, errIdle) {
		return err
	}
	if left := d.leave(context.WithoutCancel(ctx), wakeAddress(listeners)); left != nil {
		log.Info("the engine starts again: it is not idle any more", "because", left)
		return nil
	}
	log.Info("the engine ends until it is needed: it had nothing to do", "for", cfg.Idle())
	return err
}

// collectLess lets the heap grow during the start, which throws little away: a
// tenth of a start with a thousand containers is the garbage collector's else.
func collectLess() (again func()) {
	const percent = 400
	old := debug.SetGCPercent(percent)
	if old != 100 { // asked for with GOGC
		debug.SetGCPercent(old)
		return func() {}
	}
	return sync.OnceFunc(func() { debug.SetGCPercent(old) })
}

// notifyGrace is how much longer than it means to take the daemon is given to stop.
const notifyGrace = 5 * time.Second

// awaitEnds waits until it is written down how the containers have ended that go
// down with the holder, shutdown-timeout at most. They have ended by now, each in
// its own time: their units are ordered after the daemon's. The next daemon takes
// those for lost whose end is not written down.
func (d *daemon) awaitEnds(ctx context.Context) error {
	d.mu.Lock()
	limit := time.Duration(d.cfg.ShutdownTimeout) * time.Second
	d.mu.Unlock()
	told := limit + notifyGrace
	if limit < 0 {
		told = math.MaxInt64 / 2
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err := d.sd.ExtendTimeout(told)
	if left := d.engine.AwaitIdle(ctx); len(left) > 0 {
		d.log.Warn("it is not written down how containers ended: shutdown-timeout is over", "containers", left)
	}
	return err
}

// alive is the watchdog's self-check: the manager answers, what it tells comes
// through to the engine's loop, the engine tells of itself, and the records can be read.
func (d *daemon) alive(ctx context.Context) error {
	if err := d.units.Settle(ctx); err != nil {
		return moss.Wrap(err, "hear from the user's systemd", "")
	}
	if _, err := d.engine.System().Info(ctx); err != nil {
		return err
	}
	if err := d.records.Check(ctx); err != nil {
		return err
	}
	if last, quiet := d.api.Quiet(); quiet && time.Since(last) > restAfter {
		if err := dropProgram(); err != nil { // what this look has brought back
			d.log.Debug("the program's pages stay in memory", "error", err)
		}
	}
	return nil
}

// newHolder says whether the holder of the namespaces is another one than this
// engine last ran in; remember keeps that it has been seen, in the holder's
// state directory, which does not outlive it.
func newHolder(cfg config.Config) (fresh bool, remember func() error, err error) {
	path := filepath.Join(cfg.Rootless(), "restored")
	_, err = os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, nil, err
	}
	return err != nil, func() error { return os.WriteFile(path, nil, 0o600) }, nil
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end was asked for
	}
	return err
}
