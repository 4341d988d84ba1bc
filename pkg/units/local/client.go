package local

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Client asks a [Server]. It implements the engine's ports Units, Freezer,
// Limiter and Activator.
type Client struct {
	path    string
	forward Forward

	mu       sync.Mutex
	watches  map[*watch]struct{}
	progress chan struct{} // closed and made anew when a watch has told something
	closed   chan struct{}
	once     sync.Once
}

// watch is one Watch under way.
type watch struct {
	conn *net.UnixConn // nil while there is none
	seq  uint64        // told up to here
}

// NewClient makes a client of the server that listens at a path.
func NewClient(path string, f Forward) *Client {
	return &Client{path: path, forward: f, watches: map[*watch]struct{}{}, progress: make(chan struct{}), closed: make(chan struct{})}
}

// Close ends every Watch.
func (c *Client) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// Start implements the engine's port.
func (c *Client) Start(ctx context.Context, u moss.UnitSpec) (moss.UnitStatus, error) {
	if err := check(u); err != nil {
		return moss.UnitStatus{}, moss.Wrap(err, "start the unit of", u.ID.Short())
	}
	var files []*os.File
	var streams []int
	for i, f := range []*os.File{u.Stdio.Stdin, u.Stdio.Stdout, u.Stdio.Stderr} {
		if f != nil {
			_ = f.Fd() // makes the file blocking, as a program expects its streams to be
			files, streams = append(files, f), append(streams, i)
		}
	}
	a, err := c.call(ctx, request{Op: opStart, Streams: streams, Spec: &spec{
		ID: u.ID, Args: u.Launch.Args, Env: u.Launch.Env, PIDFile: u.Launch.PIDFile, OomScoreAdj: u.OomScoreAdj,
		StopSignal: int(u.StopSignal), StopTimeout: u.StopTimeout,
	}}, files...)
	if err == nil && a.Unit == nil {
		err = moss.Errorf(moss.Internal, "the answer makes no sense")
	}
	if err != nil && ctx.Err() != nil { // the server goes on without us
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, c.Collect(clean, u.ID))
	}
	if err != nil {
		return moss.UnitStatus{}, moss.Wrap(err, "start the unit of", u.ID.Short())
	}
	return *a.Unit, nil
}

// cleanupTimeout bounds what is done after the caller's context has ended.
const cleanupTimeout = 15 * time.Second

// NoLimits says why containers have none.
const NoLimits = "limits take systemd's user manager, and the engine runs without it (moss system service); leave them out"

// check refuses what only a user manager can give.
func check(u moss.UnitSpec) error {
	if len(u.Launch.Args) == 0 {
		return moss.Errorf(moss.Invalid, "no launcher is given")
	}
	if u.Slice != "" {
		return moss.Errorf(moss.NotImplemented, "there is no slice %s: slices are systemd's, and its user manager is not there", u.Slice)
	}
	if len(u.Devices) > 0 {
		return moss.Errorf(moss.NotImplemented, "cannot limit devices: %s", NoLimits)
	}
	return checkResources(u.Resources)
}

func checkResources(r moss.Resources) error {
	for _, l := range []struct {
		set  bool
		name string
	}{
		{r.Memory > 0 || r.MemoryReservation > 0 || r.MemorySwap > 0, "memory"},
		{r.NanoCPUs > 0 || r.CPUQuota > 0 || r.CPUPeriod > 0 || r.CPUShares > 0 || r.CpusetCpus != "" || r.CpusetMems != "", "CPUs"},
		{r.PidsLimit > 0, "processes"},
		{r.BlkioWeight > 0, "block I/O"},
	} {
		if l.set {
			return moss.Errorf(moss.NotImplemented, "cannot limit %s: %s", l.name, NoLimits)
		}
	}
	return nil
}

// Kill implements the engine's port.
func (c *Client) Kill(ctx context.Context, id moss.ContainerID, sig syscall.Signal) error {
	_, err := c.call(ctx, request{Op: opKill, ID: id, Signal: int(sig)})
	return moss.Wrap(err, "signal the unit of", id.Short())
}

// Collect implements the engine's port.
func (c *Client) Collect(ctx context.Context, id moss.ContainerID) error {
	_, err := c.call(ctx, request{Op: opCollect, ID: id})
	return moss.Wrap(err, "collect the unit of", id.Short())
}

// Stop stops a unit with its own signal and within its own time, as an end of
// the server does, and returns when its process has ended.
func (c *Client) Stop(ctx context.Context, id moss.ContainerID) error {
	_, err := c.call(ctx, request{Op: opStop, ID: id})
	return moss.Wrap(err, "stop the unit of", id.Short())
}

// List implements the engine's port.
func (c *Client) List(ctx context.Context) ([]moss.UnitStatus, error) {
	a, err := c.call(ctx, request{Op: opList})
	return a.List, moss.Wrap(err, "list the units of the containers", "")
}

// GoingDown says whether the server ends, and every container with it.
func (c *Client) GoingDown(ctx context.Context) bool {
	a, err := c.call(ctx, request{Op: opState})
	return err != nil || a.GoingDown
}

// Freeze implements the engine's port.
func (c *Client) Freeze(ctx context.Context, id moss.ContainerID) error {
	_, err := c.call(ctx, request{Op: opFreeze, ID: id})
	return moss.Wrap(err, "freeze the unit of", id.Short())
}

// Thaw implements the engine's port.
func (c *Client) Thaw(ctx context.Context, id moss.ContainerID) error {
	_, err := c.call(ctx, request{Op: opThaw, ID: id})
	return moss.Wrap(err, "thaw the unit of", id.Short())
}

// Groups says whether each unit has a cgroup of its own, and why not.
func (c *Client) Groups(ctx context.Context) (why string, err error) {
	a, err := c.call(ctx, request{Op: opState})
	return a.NoGroups, moss.Wrap(err, "ask the manager of the containers for cgroups", "")
}

// Limit implements the engine's port.
func (c *Client) Limit(_ context.Context, _ moss.ContainerID, r moss.Resources) error {
	return checkResources(r)
}

// call asks once. Where nobody listens the error has class Unavailable.
func (c *Client) call(ctx context.Context, r request, files ...*os.File) (answer, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := send(conn, r, files...); err != nil {
		return answer{}, endOf(ctx, err)
	}
	return answers(ctx, conn)
}

// answers reads an answer and, of a list, all that follow.
func answers(ctx context.Context, conn *net.UnixConn) (answer, error) {
	var list []moss.UnitStatus
	for {
		var a answer
		extra, err := receive(conn, &a)
		closeAll(extra)
		if err != nil {
			return answer{}, endOf(ctx, err)
		}
		list = append(list, a.List...)
		if !a.More {
			a.List = list
			return a, a.err()
		}
	}
}

func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", c.path)
	if err != nil {
		return nil, moss.Errorf(moss.Unavailable, "the manager of the containers does not answer: %w", endOf(ctx, err))
	}
	return conn.(*net.UnixConn), nil
}

func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Watch implements the engine's port.
func (c *Client) Watch(ctx context.Context, fn func(moss.UnitStatus)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	w := &watch{}
	c.mu.Lock()
	c.watches[w] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watches, w)
		c.toldLocked()
	}()
	told := map[string]moss.UnitStatus{}
	for again := time.Millisecond; ; again = min(2*again, time.Second) {
		begun := time.Now()
		_ = c.watchOnce(ctx, w, told, fn) // it is asked again, for ever
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begun) > time.Second {
			again = time.Millisecond
		}
		pause := time.NewTimer(again)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// watchOnce tells over one connection. told is what fn knows.
func (c *Client) watchOnce(ctx context.Context, w *watch, told map[string]moss.UnitStatus, fn func(moss.UnitStatus)) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	c.setConn(w, conn)
	defer c.setConn(w, nil)
	if err := send(conn, request{Op: opWatch}); err != nil {
		return err
	}
	first, err := answers(ctx, conn)
	if err != nil {
		return err
	}
	tell := func(st moss.UnitStatus) {
		if old, ok := told[st.Short]; ctx.Err() != nil || ok && old == st {
			return
		}
		if told[st.Short] = st; st.Phase == moss.UnitGone {
			delete(told, st.Short)
		}
		fn(st)
	}
	there := map[string]bool{}
	for _, st := range first.List {
		there[st.Short] = true
	}
	for _, st := range sorted(told) { // it has gone meanwhile
		if !there[st.Short] {
			st.Phase = moss.UnitGone
			tell(st)
		}
	}
	clear(told) // the present status of each is told after a lost connection
	for _, st := range first.List {
		tell(st)
	}
	for seq := first.Seq; ; {
		c.mu.Lock()
		w.seq = max(w.seq, seq)
		c.toldLocked()
		c.mu.Unlock()
		a, err := answers(ctx, conn)
		if err != nil {
			return err
		}
		if a.Unit != nil {
			tell(*a.Unit)
		}
		seq = a.Seq
	}
}

func sorted(m map[string]moss.UnitStatus) []moss.UnitStatus {
	all := make([]moss.UnitStatus, 0, len(m))
	for _, st := range m {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b moss.UnitStatus) int { return strings.Compare(a.Short, b.Short) })
	return all
}

func (c *Client) setConn(w *watch, conn *net.UnixConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.conn = conn
}

func (c *Client) toldLocked() {
	close(c.progress)
	c.progress = make(chan struct{})
}

// Settle returns when every Watch has told all that had happened until now.
func (c *Client) Settle(ctx context.Context) error {
	a, err := c.call(ctx, request{Op: opState})
	if err != nil {
		return moss.Wrap(err, "hear from the manager of the containers", "")
	}
	for {
		c.mu.Lock()
		behind := false
		for w := range c.watches {
			behind = behind || w.seq < a.Seq
		}
		progress := c.progress
		c.mu.Unlock()
		if !behind {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
