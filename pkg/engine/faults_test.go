package engine_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	errInjected = errors.New("the test broke this")
	errKilled   = errors.New("the daemon is dead")
)

// faults stands before every port of one engine. It can make one call fail,
// and it can be where the daemon is killed: from then on no call has an effect.
type faults struct {
	mu     sync.Mutex
	on     bool // calls are counted
	calls  []string
	failAt int // index of the call that fails; -1 for none
	killAt int
	dead   bool
	deaf   bool // processes do not even die of SIGKILL
	endAt  int  // the daemon is told to end before this call, counted from 1; 0 for never
	end    context.CancelFunc
}

func newFaults() *faults { return &faults{failAt: -1, killAt: -1} }

// arm begins to count.
func (f *faults) arm(failAt, killAt int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.calls, f.failAt, f.killAt = true, nil, failAt, killAt
}

// disarm says which calls were counted.
func (f *faults) disarm() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = false
	return f.calls
}

func (f *faults) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

func (f *faults) deafen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = true
}

func (f *faults) isDeaf() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deaf
}

func (f *faults) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead
}

func (f *faults) hit(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on {
		n := len(f.calls)
		f.calls = append(f.calls, call)
		f.dead = f.dead || n == f.killAt
		if n+1 == f.endAt {
			f.end()
		}
		if n == f.failAt && !f.dead {
			return errInjected
		}
	}
	if f.dead {
		return errKilled
	}
	return nil
}

// faultyRootfs can be slow too.
type faultyRootfs struct {
	engine.Rootfs
	f   *faults
	lag *time.Duration
}

func (f faultyRootfs) Alive(pid int) error { return f.Rootfs.(engine.MortalRootfs).Alive(pid) }

func (r faultyRootfs) MountLabelled(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error) {
	if err := r.f.hit("Rootfs.Mount"); err != nil {
		return moss.Mount{}, err
	}
	return r.Rootfs.(engine.LabelledRootfs).MountLabelled(ctx, id, label)
}

func (r faultyRootfs) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	if err := r.f.hit("Rootfs.Create"); err != nil {
		return err
	}
	time.Sleep(*r.lag)
	return r.Rootfs.Create(ctx, id, image)
}

func (r faultyRootfs) Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error) {
	if err := r.f.hit("Rootfs.Mount"); err != nil {
		return moss.Mount{}, err
	}
	return r.Rootfs.Mount(ctx, id)
}

func (r faultyRootfs) Unmount(ctx context.Context, id moss.ContainerID) error {
	if err := r.f.hit("Rootfs.Unmount"); err != nil {
		return err
	}
	return r.Rootfs.Unmount(ctx, id)
}

func (r faultyRootfs) Remove(ctx context.Context, id moss.ContainerID) error {
	if err := errors.Join(r.f.hit("Rootfs.Remove"), ctx.Err()); err != nil {
		return err
	}
	return r.Rootfs.Remove(ctx, id)
}

type faultyNetworks struct {
	engine.Networks
	f *faults
}

func (n faultyNetworks) Attach(ctx context.Context, c *moss.Container) (moss.Attachment, error) {
	if err := n.f.hit("Networks.Attach"); err != nil {
		return moss.Attachment{}, err
	}
	return n.Networks.Attach(ctx, c)
}

func (n faultyNetworks) Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	if err := n.f.hit("Networks.Detach"); err != nil {
		return err
	}
	return n.Networks.Detach(ctx, id, a)
}

func (n faultyNetworks) Publish(ctx context.Context, id moss.ContainerID, a moss.Attachment, ports []moss.PortBinding) ([]moss.PublishedPort, error) {
	if err := n.f.hit("Networks.Publish"); err != nil {
		return nil, err
	}
	return n.Networks.Publish(ctx, id, a, ports)
}

func (n faultyNetworks) Rename(c *moss.Container, a moss.Attachment) moss.Attachment {
	return n.Networks.(engine.NameFollower).Rename(c, a)
}

func (n faultyNetworks) Restore(ctx context.Context, running map[moss.ContainerID]moss.Attachment) error {
	if err := n.f.hit("Networks.Restore"); err != nil {
		return err
	}
	return n.Networks.Restore(ctx, running)
}

type faultyRuntime struct {
	engine.Runtime
	f *faults
}

func (r faultyRuntime) RefreshLinks(ctx context.Context, b moss.Bundle, links []moss.LinkedHost) error {
	if err := r.f.hit("Runtime.RefreshLinks"); err != nil {
		return err
	}
	return r.Runtime.(engine.LinkRefresher).RefreshLinks(ctx, b, links)
}

func (r faultyRuntime) Prepare(ctx context.Context, b moss.Bundle) (moss.Launch, error) {
	if err := r.f.hit("Runtime.Prepare"); err != nil {
		return moss.Launch{}, err
	}
	return r.Runtime.Prepare(ctx, b)
}

func (r faultyRuntime) Start(ctx context.Context, c *moss.Container) error {
	if err := r.f.hit("Runtime.Start"); err != nil {
		return err
	}
	return r.Runtime.Start(ctx, c)
}

func (r faultyRuntime) Delete(ctx context.Context, c *moss.Container) error {
	if err := r.f.hit("Runtime.Delete"); err != nil {
		return err
	}
	return r.Runtime.Delete(ctx, c)
}

func (r faultyRuntime) Exec(ctx context.Context, c *moss.Container, e *moss.Exec, io moss.ChildStdio) (moss.Process, error) {
	if err := r.f.hit("Runtime.Exec"); err != nil {
		return nil, err
	}
	return r.Runtime.Exec(ctx, c, e, io)
}

func (r faultyRuntime) EndProbes(ctx context.Context, id moss.ContainerID) error {
	if err := r.f.hit("Runtime.EndProbes"); err != nil {
		return err
	}
	return r.Runtime.(engine.ProbeEnder).EndProbes(ctx, id)
}

type faultyUnits struct {
	engine.Units
	f *faults
}

func (u faultyUnits) Start(ctx context.Context, spec moss.UnitSpec) (moss.UnitStatus, error) {
	if err := u.f.hit("Units.Start"); err != nil {
		return moss.UnitStatus{}, err
	}
	return u.Units.Start(ctx, spec)
}

func (u faultyUnits) Kill(ctx context.Context, id moss.ContainerID, sig syscall.Signal) error {
	if err := u.f.hit("Units.Kill"); err != nil {
		return err
	}
	if u.f.isDeaf() {
		return nil
	}
	return u.Units.Kill(ctx, id, sig)
}

func (u faultyUnits) Collect(ctx context.Context, id moss.ContainerID) error {
	if err := u.f.hit("Units.Collect"); err != nil {
		return err
	}
	return u.Units.Collect(ctx, id)
}

type faultyStdio struct {
	engine.Stdio
	f *faults
}

func (s faultyStdio) Open(ctx context.Context, id moss.StreamID, spec moss.StdioSpec, sink engine.LogSink) (moss.ChildStdio, error) {
	if err := s.f.hit("Stdio.Open"); err != nil {
		return moss.ChildStdio{}, err
	}
	return s.Stdio.Open(ctx, id, spec, sink)
}

func (s faultyStdio) Ready(ctx context.Context, id moss.StreamID) error {
	if err := s.f.hit("Stdio.Ready"); err != nil {
		return err
	}
	return s.Stdio.Ready(ctx, id)
}

func (s faultyStdio) Restore(ctx context.Context, id moss.StreamID, spec moss.StdioSpec, sink engine.LogSink) error {
	if err := s.f.hit("Stdio.Restore"); err != nil {
		return err
	}
	return s.Stdio.Restore(ctx, id, spec, sink)
}

func (s faultyStdio) Finish(ctx context.Context, id moss.StreamID) error {
	if err := s.f.hit("Stdio.Finish"); err != nil {
		return err
	}
	return s.Stdio.Finish(ctx, id)
}

// slowAttacher lets clients join late.
type slowAttacher struct {
	engine.Attacher
	wait *time.Duration
}

func (a slowAttacher) Attach(ctx context.Context, id moss.StreamID, io moss.AttachIO, attached func()) error {
	time.Sleep(*a.wait)
	return a.Attacher.Attach(ctx, id, io, attached)
}

type faultyLogs struct {
	engine.Logs
	f *faults
}

func (l faultyLogs) Open(c *moss.Container) (engine.LogSink, error) {
	if err := l.f.hit("Logs.Open"); err != nil {
		return nil, err
	}
	return l.Logs.Open(c)
}

func (l faultyLogs) Remove(c *moss.Container) error {
	if err := l.f.hit("Logs.Remove"); err != nil {
		return err
	}
	return l.Logs.Remove(c)
}

type faultyRecords struct {
	engine.Records
	f *faults
}

func (r faultyRecords) Put(c *moss.Container, durable bool) error {
	if err := r.f.hit("Records.Put"); err != nil {
		return err
	}
	return r.Records.Put(c, durable)
}

func (r faultyRecords) Delete(id moss.ContainerID) error {
	if err := r.f.hit("Records.Delete"); err != nil {
		return err
	}
	return r.Records.Delete(id)
}

// faultyImages can be slow too.
type faultyImages struct {
	engine.ImageStore
	f   *faults
	lag *time.Duration
}

func (s faultyImages) Untag(ctx context.Context, name string) error {
	if err := s.f.hit("Images.Untag"); err != nil {
		return err
	}
	return s.ImageStore.Untag(ctx, name)
}

func (s faultyImages) Delete(ctx context.Context, id moss.ImageID) ([]moss.ImageRemoval, error) {
	if err := s.f.hit("Images.Delete"); err != nil {
		return nil, err
	}
	time.Sleep(*s.lag)
	return s.ImageStore.Delete(ctx, id)
}

type faultyMaker struct {
	engine.ImageMaker
	f *faults
}

func (m faultyMaker) Make(ctx context.Context, n moss.NewImage, diff io.Reader) (moss.ImageID, error) {
	if err := m.f.hit("Maker.Make"); err != nil {
		return "", err
	}
	return m.ImageMaker.Make(ctx, n, diff)
}

// faultyFiles can be slow too.
type faultyFiles struct {
	engine.RootfsFiles
	f   *faults
	lag *time.Duration
}

type slowReader struct {
	io.ReadCloser
	lag time.Duration
}

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(r.lag)
	return r.ReadCloser.Read(p)
}

func (r faultyFiles) Export(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	if err := r.f.hit("Files.Export"); err != nil {
		return nil, err
	}
	tree, err := r.RootfsFiles.Export(ctx, id)
	return slowReader{tree, *r.lag}, err
}

func (r faultyFiles) Diff(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	if err := r.f.hit("Files.Diff"); err != nil {
		return nil, err
	}
	diff, err := r.RootfsFiles.Diff(ctx, id)
	return slowReader{diff, *r.lag}, err
}

type faultyFreezer struct {
	engine.Freezer
	f *faults
}

func (u faultyFreezer) Freeze(ctx context.Context, id moss.ContainerID) error {
	if err := u.f.hit("Freezer.Freeze"); err != nil {
		return err
	}
	return u.Freezer.Freeze(ctx, id)
}

func (u faultyFreezer) Thaw(ctx context.Context, id moss.ContainerID) error {
	if err := u.f.hit("Freezer.Thaw"); err != nil {
		return err
	}
	return u.Freezer.Thaw(ctx, id)
}

type faultyLimiter struct {
	engine.Limiter
	f *faults
}

func (l faultyLimiter) Limit(ctx context.Context, id moss.ContainerID, r moss.Resources) error {
	if err := l.f.hit("Limiter.Limit"); err != nil {
		return err
	}
	return l.Limiter.Limit(ctx, id, r)
}
