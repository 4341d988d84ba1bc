package fake

import (
	"bytes"
	"context"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Attach implements engine.Attacher. Detach keys are seen where they come in
// one read.
func (s *Stdio) Attach(ctx context.Context, id moss.StreamID, a moss.AttachIO, attached func()) error {
	f := s.stream(id, true)
	c := &fakeClient{io: a}
	c.mu.Lock() // what was kept comes first
	f.mu.Lock()
	early, last := f.early, f.waits
	f.early, f.waits = nil, false
	f.clients[c] = true
	f.mu.Unlock()
	attached()
	c.mu.Unlock()
	for _, k := range early {
		c.write(k)
	}
	left := make(chan error, 1)
	if a.Stdin != nil {
		go func() { left <- f.typed(ctx, a) }()
	}
	defer func() {
		f.mu.Lock()
		delete(f.clients, c)
		empty := f.ends == nil && len(f.clients) == 0
		f.mu.Unlock()
		if a.Stdin != nil {
			f.inputEnded()
		}
		if over := f.over(); empty || over && last {
			s.forget(id, f)
		}
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}()
	for {
		select {
		case <-f.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case err := <-left:
			if err != nil || a.Stdout == nil && a.Stderr == nil {
				return err
			}
		}
	}
}

func (f *fakeStream) over() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// typed passes on what a client sends.
func (f *fakeStream) typed(ctx context.Context, a moss.AttachIO) error {
	select {
	case <-f.opened:
	case <-f.ended:
		return nil
	case <-ctx.Done():
		return nil
	}
	f.mu.Lock()
	in, open := f.ends.in, f.spec.Stdin
	f.mu.Unlock()
	buf := make([]byte, 4096)
	for {
		n, err := a.Stdin.Read(buf)
		p, detached := buf[:n], false
		if len(a.DetachKeys) > 0 {
			p, _, detached = bytes.Cut(p, a.DetachKeys)
		}
		if open && len(p) > 0 {
			_, _ = in.Write(p) // a process may have closed its input
		}
		if detached {
			return engine.ErrDetached
		}
		if err != nil {
			f.inputEnded()
			return nil //nolint:nilerr // input ends in whatever way
		}
	}
}

func (f *fakeStream) inputEnded() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends != nil && f.ends.in != nil && !f.spec.TTY && (f.spec.StdinOnce || f.spec.OneClient) {
		_ = f.ends.in.Close() // more than once is no harm
	}
}

// Resize implements engine.Attacher.
func (s *Stdio) Resize(id moss.StreamID, size moss.TermSize) error {
	f := s.stream(id, false)
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ends != nil && f.spec.TTY {
			f.ends.size = size
			return nil
		}
	}
	return moss.Errorf(moss.Conflict, "there is no terminal")
}

// Drop implements engine.Attacher.
func (s *Stdio) Drop(id moss.StreamID) {
	f := s.stream(id, false)
	if f == nil {
		return
	}
	f.mu.Lock()
	running := f.ends != nil
	f.mu.Unlock()
	if running && !f.over() {
		return // Finish ends it
	}
	f.end()
	s.forget(id, f)
}
