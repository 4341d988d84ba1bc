package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// execKept is how long an ended exec can be inspected, as with docker.
const execKept = 5 * time.Minute

// exec is one exec in the engine.
type exec struct {
	container moss.ContainerID

	mu      sync.Mutex // guards what follows
	rec     moss.Exec
	endedAt time.Time
	proc    Process // nil before it runs
}

func (x *exec) get() moss.Exec {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rec
}

// Execs runs processes in containers.
type Execs struct{ *Engine }

// Execs returns the service that runs processes in containers.
func (e *Engine) Execs() Execs { return Execs{e} }

// Create prepares a process. Errors: Conflict when the container does not run.
func (s Execs) Create(_ context.Context, ref string, cfg moss.ExecConfig) (moss.ExecID, error) {
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if len(cfg.Cmd) == 0 {
		return "", moss.Errorf(moss.Invalid, "No exec command specified")
	}
	rec := c.record()
	if err := canExec(rec); err != nil {
		return "", err
	}
	return s.add(rec, moss.Exec{Config: cfg}).rec.ID, nil
}

// add takes an exec in under a new id, and forgets those that ended long ago.
func (s Execs) add(rec *moss.Container, e moss.Exec) *exec {
	e.ID, e.Container = moss.ExecID(moss.NewHexID()), rec.ID
	x := &exec{container: rec.ID, rec: e}
	s.mu.Lock()
	for id, old := range s.execs {
		old.mu.Lock()
		if !old.endedAt.IsZero() && time.Since(old.endedAt) > execKept {
			delete(s.execs, id)
		}
		old.mu.Unlock()
	}
	s.execs[e.ID] = x
	s.mu.Unlock()
	s.publish(rec, "exec_create: "+strings.Join(e.Config.Cmd, " "), time.Now(), "execID", string(e.ID))
	return x
}

// drop forgets an exec.
func (e *Engine) drop(id moss.ExecID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.execs, id)
}

// dropExecs forgets the execs of a container whose run has ended, but for those
// that ran: how they ended can still be asked for.
func (e *Engine) dropExecs(id moss.ContainerID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, x := range e.execs {
		if x.container == id && !x.get().Started {
			delete(e.execs, key)
		}
	}
}

// execsOf are the execs of a container that have not ended.
func (e *Engine) execsOf(id moss.ContainerID) []moss.ExecID {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var ids []moss.ExecID
	for key, x := range e.execs {
		if x.container == id && x.get().ExitCode == nil {
			ids = append(ids, key)
		}
	}
	slices.Sort(ids)
	return ids
}

func canExec(rec *moss.Container) error {
	switch rec.State {
	case moss.StateRunning:
		if !rec.Run.Frozen {
			return nil
		}
		return moss.Errorf(moss.Conflict, "container %s is paused for a commit, try again when that has ended", rec.ID)
	case moss.StatePaused:
		return moss.Errorf(moss.Conflict, "Container %s is paused, unpause the container before exec", rec.ID)
	case moss.StateRestarting:
		return moss.Errorf(moss.Conflict, "container %s is restarting, wait until the container is running", rec.ID)
	default:
		return moss.Errorf(moss.Conflict, "container %s is not running", rec.ID)
	}
}

func (s Execs) lookup(id string) (*exec, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if x, ok := s.execs[moss.ExecID(id)]; ok && s.containers[x.container] != nil {
		return x, nil
	}
	return nil, moss.Errorf(moss.NotFound, "No such exec instance: %s", id)
}

// Get tells of an exec.
func (s Execs) Get(id string) (moss.Exec, error) {
	x, err := s.lookup(id)
	if err != nil {
		return moss.Exec{}, err
	}
	return x.get(), nil
}

// Startable tells of an exec that is to be started. Errors: Conflict where its
// container does not run, or is paused.
func (s Execs) Startable(id string) (moss.Exec, error) {
	x, err := s.lookup(id)
	if err != nil {
		return moss.Exec{}, err
	}
	c, err := s.find(string(x.container))
	if err != nil {
		return moss.Exec{}, err
	}
	return x.get(), canExec(c.record())
}

// Resize sets the size of an exec's terminal.
func (s Execs) Resize(_ context.Context, id string, size moss.TermSize) error {
	x, err := s.lookup(id)
	if err != nil {
		return err
	}
	if !x.get().Running {
		return moss.Errorf(moss.Conflict, "exec %s is not running", id)
	}
	return s.Attacher.Resize(moss.ExecID(id).Streams(), size)
}

// Start runs a prepared process. Detached it returns when the process runs,
// else when it has ended and its output is out, or the client has detached.
func (s Execs) Start(ctx context.Context, id string, detach bool, size moss.TermSize, a moss.AttachIO, attached func()) error {
	x, err := s.lookup(id)
	if err != nil {
		return err
	}
	rec, err := s.begin(x)
	if err != nil {
		return err
	}
	if size != (moss.TermSize{}) {
		rec.Config.ConsoleSize = size
	}
	streams := rec.ID.Streams()
	client := ctx //nolint:contextcheck // a detached exec outlives its request
	if detach {   // someone must take the output, or the process would stop at a full pipe
		client, a = s.ctx, moss.AttachIO{Stdout: io.Discard, Stderr: io.Discard}
	}
	done, leave := s.join(client, streams, a)
	if err := s.run(ctx, x, rec); err != nil {
		s.Attacher.Drop(streams)
		leave() // also where the streams could not be ended
		<-done  //nolint:errcheck // it ends as it was told to
		return err
	}
	attached()
	if detach {
		return nil
	}
	err = <-done
	if errors.Is(err, ErrDetached) {
		if c, err := s.find(string(x.container)); err == nil {
			s.publish(c.record(), "exec_detach", time.Now(), "execID", id)
		}
		return nil
	}
	return err
}

// join attaches a client and returns once it is there: before the process, so
// that nothing is missed, and so that dropping the streams ends it. leave
// takes the client away.
func (s Execs) join(ctx context.Context, streams moss.StreamID, a moss.AttachIO) (_ <-chan error, leave func()) {
	ctx, leave = context.WithCancel(ctx)
	done, joined := make(chan error, 1), make(chan struct{})
	var once sync.Once
	go func() {
		defer leave()
		err := s.Attacher.Attach(ctx, streams, a, func() { once.Do(func() { close(joined) }) })
		once.Do(func() { close(joined) })
		done <- err
	}()
	<-joined
	return done, leave
}

// begin marks an exec as started, which it can be once.
func (s Execs) begin(x *exec) (moss.Exec, error) {
	c, err := s.find(string(x.container))
	if err != nil {
		return moss.Exec{}, err
	}
	if err := canExec(c.record()); err != nil {
		return moss.Exec{}, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rec.Started {
		return moss.Exec{}, moss.Errorf(moss.Conflict, "exec command %s has already run", x.rec.ID)
	}
	x.rec.Started = true
	return x.rec, nil
}

// run starts the process and watches for its end in the background.
func (s Execs) run(ctx context.Context, x *exec, rec moss.Exec) (err error) {
	defer func() {
		if err != nil {
			code := failureCode(err)
			x.mu.Lock()
			x.rec.ExitCode, x.endedAt = &code, time.Now()
			x.mu.Unlock()
		}
	}()
	c, err := s.find(string(x.container))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	streams := rec.ID.Streams()
	child, err := s.Stdio.Open(ctx, streams, moss.StdioSpec{
		TTY: rec.Config.TTY, Stdin: rec.Config.AttachStdin, Size: rec.Config.ConsoleSize, OneClient: true,
	}, nil)
	if err != nil {
		return moss.Wrap(err, "open the streams of exec", string(rec.ID))
	}
	proc, err := s.Runtime.Exec(ctx, s.withLiveLinks(c.record()), &rec, child)
	child.Close()
	if err == nil {
		if err = s.Stdio.Ready(ctx, streams); err != nil {
			err = errors.Join(err, proc.Signal(syscall.SIGKILL))
			s.spawn(func(ctx context.Context) { _, _ = proc.Wait(ctx) }) // nobody asks how it ended
		}
	}
	if err != nil {
		if gone := s.rootfsGone(c); gone != nil { // what the runtime says only follows from it
			err = moss.Wrap(gone, "exec in", c.record().Name)
		}
		return errors.Join(err, s.Stdio.Finish(ctx, streams))
	}
	x.mu.Lock()
	x.rec.Running, x.rec.PID, x.proc = true, proc.PID(), proc
	x.mu.Unlock()
	s.publish(c.record(), "exec_start: "+strings.Join(rec.Config.Cmd, " "), time.Now(), "execID", string(rec.ID))
	s.spawn(func(ctx context.Context) { s.reap(ctx, c, x, proc) })
	return nil
}

// reap waits for an exec's end, and lets its clients go once the exit code can
// be asked for.
func (s Execs) reap(ctx context.Context, c *container, x *exec, proc Process) {
	code, err := proc.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		s.Log.Error("an exec's end was not seen", "container", c.record().Name, "error", err)
		code = lostExitCode
	}
	x.mu.Lock()
	x.rec.Running, x.rec.ExitCode, x.rec.PID, x.endedAt = false, &code, 0, time.Now()
	id := x.rec.ID
	x.mu.Unlock()
	// Told before the clients are let go, so that what they do next comes after it.
	s.publish(c.record(), "exec_die", time.Now(), "execID", string(id), "exitCode", strconv.Itoa(code))
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := s.Stdio.Finish(finish, id.Streams()); err != nil {
		s.Log.Error("an exec's streams could not be closed", "container", c.record().Name, "error", err)
	}
}
