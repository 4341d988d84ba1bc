package engine

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// probe runs a health check once. It is an exec like any other, but nobody can
// ask for it later. Where ctx ends it is killed, and its result means nothing.
func (s Execs) probe(ctx context.Context, c *container, k check) moss.HealthProbe {
	p := moss.HealthProbe{Start: time.Now(), ExitCode: -1}
	out := new(headBuffer)
	code, late, err := s.runProbe(ctx, c, k, out)
	p.End, p.Output = time.Now(), out.String()
	switch {
	case err != nil:
		p.Output = err.Error()
	case late:
		message := fmt.Sprintf("Health check exceeded timeout (%s)", k.timeout)
		if p.Output != "" {
			message += ": " + p.Output
		}
		p.Output = message
	default:
		p.ExitCode = code
	}
	return p
}

func (s Execs) runProbe(ctx context.Context, c *container, k check, out *headBuffer) (code int, late bool, err error) {
	rec := c.record()
	if err := canExec(rec); err != nil {
		return 0, false, err
	}
	x := s.add(rec, moss.Exec{
		Config:  moss.ExecConfig{Cmd: k.command, AttachStdout: true, AttachStderr: true},
		Started: true, Probe: true,
	})
	e := x.get()
	defer s.drop(e.ID)
	limit, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	// The streams are waited for until they end: only then is the output there.
	done, leave := s.join(s.ctx, e.ID.Streams(), moss.AttachIO{Stdout: out, Stderr: out}) //nolint:contextcheck // also after the timeout
	defer leave()
	if err := s.run(ctx, x, e); err != nil {
		s.Attacher.Drop(e.ID.Streams())
		leave()
		<-done //nolint:errcheck // it ends as it was told to
		return 0, false, err
	}
	select {
	case err = <-done:
	case <-limit.Done():
		late = true
		if err := x.kill(); err != nil {
			s.Log.Warn("a health check could not be killed", "container", rec.Name, "error", err)
		}
		err = <-done
	}
	if end := x.get().ExitCode; end != nil {
		return *end, late, nil
	}
	return 0, late, err
}

// kill ends an exec's process and what it has started.
func (x *exec) kill() error {
	x.mu.Lock()
	proc := x.proc
	x.mu.Unlock()
	if g, ok := proc.(GroupKiller); ok {
		return g.KillGroup()
	}
	return proc.Signal(syscall.SIGKILL)
}

// headBuffer keeps the beginning of an output.
type headBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	cut bool
}

// Write never fails: what there is no room for is dropped.
func (b *headBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keep := min(healthOutput-b.buf.Len(), len(p))
	b.buf.Write(p[:keep])
	b.cut = b.cut || keep < len(p)
	return len(p), nil
}

func (b *headBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return b.buf.String() + "..."
	}
	return b.buf.String()
}
