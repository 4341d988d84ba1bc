package engine

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// defaultStopTimeout is docker's.
const defaultStopTimeout = 10 * time.Second

// Start starts a container. Errors: NotModified when it runs already.
func (s Containers) Start(ctx context.Context, ref string) error {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	rec := c.record()
	if rec.State == moss.StatePaused {
		return moss.Errorf(moss.Conflict, "cannot start a paused container, try unpause instead")
	}
	if rec.State.Alive() {
		return moss.Errorf(moss.NotModified, "container %s is already running", rec.Name)
	}
	c.update(func() { c.retries = 0 })
	return s.start(ctx, c, 0)
}

// start takes a container from its record to a running process; the caller
// holds the turn. restarts is the number of times the policy has done so.
// What fails is undone in reverse.
func (e *Engine) start(ctx context.Context, c *container, restarts int) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if rec := c.record(); rec.State == moss.StateDead {
		return moss.Errorf(moss.Conflict, "container %s is marked for removal and cannot be started", rec.Name)
	}
	e.expectStart()
	var undo undo
	defer func() {
		if err != nil {
			err = e.startFailed(ctx, c, err, undo.run(ctx))
		}
	}()
	if err := e.cleanUp(ctx, c); err != nil {
		return err
	}
	if err := e.note(c, func(r *moss.Container) { r.Intent, r.Network = moss.IntentStart, nil }); err != nil {
		return err
	}
	rec := c.record()

	rootfs, err := e.mountRootfs(ctx, rec, rec.ID)
	if err != nil {
		return moss.Wrap(err, "mount rootfs of", rec.Name)
	}
	undo.add(func(ctx context.Context) error { return e.unmount(ctx, rec.ID) })

	links, err := e.linked(rec)
	if err != nil {
		return err
	}
	points, done, err := e.mountVolumes(ctx, c, rec)
	defer done() // runs before what fails is undone
	if err != nil {
		return err
	}

	undo.add(func(ctx context.Context) error { return e.withdrawSecrets(ctx, rec) })
	if points, err = e.placeSecrets(ctx, rec, points); err != nil {
		return err
	}

	net, err := e.attach(ctx, rec)
	if err != nil {
		return moss.Wrap(err, "attach the network of", rec.Name)
	}
	undo.add(func(ctx context.Context) error { return e.detach(ctx, rec.ID, net) })

	b := bundle(rec, rootfs, points, net)
	b.Container, b.Links = withLinks(b.Container, links), linkedHosts(links)
	if err := e.join(&b); err != nil {
		return err
	}
	streams, err := e.openStdio(ctx, rec)
	if err != nil {
		return moss.Wrap(err, "open the streams of", rec.Name)
	}
	undo.add(func(ctx context.Context) error { return e.Stdio.Finish(ctx, rec.ID.Streams()) })

	b.ConsoleSocket = streams.ConsoleSocket
	launch, err := e.Runtime.Prepare(ctx, b)
	undo.add(func(ctx context.Context) error { return e.Runtime.Delete(ctx, rec) })
	if err != nil {
		streams.Close()
		return err
	}

	if err := e.relabel(rec, points); err != nil {
		streams.Close()
		return err
	}
	unit, err := e.Units.Start(ctx, unitSpec(rec, launch, streams))
	streams.Close()
	if err != nil {
		if why := e.Runtime.Failure(rec); why != nil {
			return why
		}
		return moss.Wrap(err, "start the unit of", rec.Name)
	}
	undo.add(func(ctx context.Context) error { return e.Units.Collect(ctx, rec.ID) })

	if err := e.Stdio.Ready(ctx, rec.ID.Streams()); err != nil {
		return moss.Wrap(err, "receive the terminal of", rec.Name)
	}
	if net.Published, err = e.openPorts(ctx, rec, net); err != nil {
		return err
	}

	// From here a new daemon can take over what this one has made.
	if err := e.note(c, func(r *moss.Container) { r.Network, r.Run.PID = &net, unit.PID }); err != nil {
		return err
	}
	if err := e.Runtime.Start(ctx, rec); err != nil {
		return moss.Wrap(err, "start", rec.Name)
	}
	return e.started(c, net, unit.PID, restarts, time.Now())
}

// started commits a start.
func (e *Engine) started(c *container, net moss.Attachment, pid, restarts int, at time.Time) error {
	rec, err := e.commit(c, lifecycle.Start, func(r *moss.Container) {
		r.Network, r.Stopped = &net, false
		r.Run = moss.Run{PID: pid, StartedAt: at, FinishedAt: r.Run.FinishedAt, Restarts: restarts, Health: newHealth(r)}
	})
	if err != nil {
		return err
	}
	e.networkEvents(rec, net, "connect", at)
	e.portEvents(rec, net.Published, "publish", at)
	e.publishMounts(rec, "mount", at)
	e.publish(rec, "start", at)
	e.watchHealth(c)
	e.followLinks(e.ctx, c)
	return nil
}

// startFailed keeps why a start failed, or removes the container where that was
// asked for. The exit code is what a shell would give, as docker's is: 127 for
// a missing command or working directory, 126 for one that cannot run.
func (e *Engine) startFailed(ctx context.Context, c *container, err, undoErr error) error {
	e.Attacher.Drop(c.id.Streams())
	code := failureCode(err)
	rec, commitErr := e.commitFact(c, lifecycle.StartFailed, func(r *moss.Container) {
		r.Network = nil
		r.Run.PID, r.Run.ExitCode, r.Run.Error = 0, code, err.Error()
	}, nil)
	if undoErr != nil {
		e.Log.ErrorContext(ctx, "a failed start could not be cleaned up", "container", rec.Name, "error", undoErr)
		c.update(func() { c.unclean = true })
	}
	switch {
	case commitErr != nil || !rec.Host.AutoRemove:
	case c.isRead():
		e.spawn(func(ctx context.Context) { e.removeLater(ctx, c) })
	default:
		commitErr = e.remove(context.WithoutCancel(ctx), c)
	}
	return errors.Join(err, commitErr)
}

func failureCode(err error) int {
	text := err.Error()
	for _, words := range []string{"executable file not found", "no such file or directory", "not a directory"} {
		if strings.Contains(text, words) {
			return 127
		}
	}
	if errors.Is(err, fs.ErrPermission) || strings.Contains(text, "permission denied") || strings.Contains(text, "is a directory") {
		return 126
	}
	return 128
}

func (e *Engine) openStdio(ctx context.Context, rec *moss.Container) (moss.ChildStdio, error) {
	sink, err := e.Logs.Open(rec)
	if err != nil {
		return moss.ChildStdio{}, err
	}
	streams, err := e.Stdio.Open(ctx, rec.ID.Streams(), stdioSpec(rec), sink)
	if err != nil && sink != nil {
		err = errors.Join(err, sink.Close())
	}
	return streams, err
}

func stdioSpec(rec *moss.Container) moss.StdioSpec {
	return moss.StdioSpec{
		TTY: rec.Config.TTY, Stdin: rec.Config.OpenStdin, StdinOnce: rec.Config.StdinOnce,
		Persist: true, Size: rec.Host.ConsoleSize,
	}
}

func bundle(rec *moss.Container, rootfs moss.Mount, points []moss.MountPoint, net moss.Attachment) moss.Bundle {
	c := *rec
	c.Mounts = points
	return moss.Bundle{
		Container: c, Rootfs: rootfs, Attachment: net,
		Hosts:    filepath.Join(rec.Dir, "hosts"),
		Hostname: filepath.Join(rec.Dir, "hostname"),
		Resolv:   filepath.Join(rec.Dir, "resolv.conf"),
	}
}

func unitSpec(rec *moss.Container, launch moss.Launch, streams moss.ChildStdio) moss.UnitSpec {
	return moss.UnitSpec{
		ID: rec.ID, Description: "Container " + rec.Name + " (" + rec.ImageRef + ")",
		Launch: launch, Stdio: streams, Slice: rec.Host.CgroupParent, Resources: rec.Host.Resources, Devices: rec.Host.DeviceLimits, Ulimits: rec.Host.Ulimits,
		OomScoreAdj: rec.Host.OomScoreAdj, StopSignal: stopSignal(rec), StopTimeout: stopTimeout(rec),
	}
}

// stopSignal is the container's own; create has checked that it can be read.
func stopSignal(rec *moss.Container) syscall.Signal {
	if sig, err := moss.ParseSignal(rec.Config.StopSignal); err == nil {
		return sig
	}
	return syscall.SIGTERM
}

func stopTimeout(rec *moss.Container) time.Duration {
	if t := rec.Config.StopTimeout; t != nil {
		return time.Duration(*t) * time.Second
	}
	return defaultStopTimeout
}

// openPorts opens a container's ports; without a way out it has no way in either.
func (e *Engine) openPorts(ctx context.Context, rec *moss.Container, net moss.Attachment) ([]moss.PublishedPort, error) {
	ports := e.portsToPublish(rec)
	if len(ports) == 0 || !net.Address.IsValid() && !net.Address6.IsValid() || net.Internal {
		return nil, nil
	}
	open, err := e.Networks.Publish(ctx, rec.ID, net, ports)
	if err != nil {
		return nil, e.portTaken(rec, net, ports, err)
	}
	return open, nil
}

// portsToPublish are those asked for, and with PublishAll every exposed port
// that none of them covers, at a free port of the host.
func (e *Engine) portsToPublish(rec *moss.Container) []moss.PortBinding {
	if !bridged(rec.Host.NetworkMode) || rec.Host.Activated() { // the latter are held, see hold
		return nil
	}
	ports := append([]moss.PortBinding(nil), rec.Host.PortBindings...)
	if !rec.Host.PublishAll {
		return ports
	}
	bound := make(map[moss.Port]bool, len(ports))
	for _, b := range ports {
		bound[b.Port] = true
	}
	for _, p := range rec.Config.ExposedPorts {
		if !bound[p] {
			ports = append(ports, moss.PortBinding{Port: p})
		}
	}
	return ports
}
