package stdio

import (
	"context"
	"io"
	"os"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// Attach joins a client before or during a run: attached is called as soon as
// no later output can be missed. It returns nil at the end of the run, or, for a
// client of the input alone, when that ends; ErrDetached after the detach
// keys; ctx's error when that ends; what failed when the client cannot be
// written to, or is too far behind. A process waits for the client of an exec
// that reads slowly, and for no other.
//
// A Read or Write of the client's that is under way when Attach returns goes
// on until the caller closes the connection.
func (h *Hub) Attach(ctx context.Context, id moss.StreamID, a moss.AttachIO, attached func()) error {
	s, box := h.join(id)
	c := &client{s: s, box: box, io: a, left: make(chan struct{})}
	defer h.leave(s, c)
	attached()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	if a.Stdin != nil {
		go c.read()
	}
	select {
	case <-written: // the end, or the client is gone
		if err := c.reason(); err != nil {
			return err
		}
		return moss.Wrap(c.box.failure(), "go on with the client attached to", short(id))
	case <-c.left:
		return c.reason()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resize sets the terminal's size. Errors: Conflict without a terminal.
func (h *Hub) Resize(id moss.StreamID, size moss.TermSize) error {
	s := h.find(id)
	if s == nil {
		return errNoTerminal(id)
	}
	return s.resize(size)
}

// join gives a new client its box, the one kept for the first client where
// there is one.
func (h *Hub) join(id moss.StreamID) (*stream, *outbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.enterLocked(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if box := s.early; box != nil {
		s.early = nil
		if s.phase == finished {
			delete(h.streams, id)
		}
		return s, box
	}
	box := newOutbox()
	if s.phase != waiting && !s.spec.OneClient {
		box.spillTo(h.disk())
	}
	if s.phase == draining {
		box.unbound()
	}
	if s.phase == finished {
		box.end()
	}
	s.boxes[box] = true
	return s, box
}

// leave takes a client out.
func (h *Hub) leave(s *stream, c *client) {
	c.leave(nil)
	h.mu.Lock()
	s.mu.Lock()
	delete(s.boxes, c.box)
	if s.phase == waiting && len(s.boxes) == 0 && h.streams[s.id] == s {
		delete(h.streams, s.id)
	}
	s.mu.Unlock()
	h.mu.Unlock()
	if c.io.Stdin != nil {
		c.inputEnded()
	}
}

// client is one that is attached.
type client struct {
	s    *stream
	box  *outbox
	io   moss.AttachIO
	once sync.Once
	left chan struct{}
	err  error // why it left; set before left is closed
}

// leave ends the attachment from the client's side.
func (c *client) leave(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.left)
		c.box.leave()
	})
}

// reason is why the client left; nil when it has not.
func (c *client) reason() error {
	select {
	case <-c.left:
		return c.err
	default:
		return nil
	}
}

// write writes output until the end of the run or of the client.
func (c *client) write() {
	for going := true; ; {
		queue := c.box.next()
		if len(queue) == 0 {
			return
		}
		for _, k := range queue {
			to := c.io.Stdout
			if k.kind == moss.Stderr {
				to = c.io.Stderr
			}
			if to != nil && going {
				if _, err := to.Write(k.data); err != nil {
					c.leave(moss.Wrap(err, "write to the client attached to", short(c.s.id)))
				}
			}
			going = c.box.wrote(k)
		}
	}
}

// read passes on what the client sends.
func (c *client) read() {
	select {
	case <-c.s.ready:
	case <-c.s.ended:
		return
	case <-c.left:
		return
	}
	in := c.s.input()
	keys := detector{keys: c.io.DetachKeys}
	pass := func(p []byte) {
		if in == nil || len(p) == 0 {
			return
		}
		if _, err := in.Write(p); err != nil {
			in = nil // the process reads no more; the keys still work
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := c.io.Stdin.Read(*buf)
		select {
		case <-c.left: // what was typed after that is for nobody
			return
		default:
		}
		p, detached := keys.pass((*buf)[:n])
		if in != nil && c.s.interrupts(in, p) {
			c.box.flush()
		}
		pass(p)
		if detached {
			c.leave(moss.ErrDetached)
			return
		}
		if err != nil {
			if err == io.EOF { // io.Reader returns it bare
				pass(keys.rest())
			}
			break
		}
	}
	c.inputEnded()
	if c.io.Stdout == nil && c.io.Stderr == nil {
		c.leave(nil)
	}
}

// input returns where the process's input is written; nil for none.
func (s *stream) input() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		return nil
	}
	return s.ends.in
}

// inputEnded closes the process's input where it ends with that of a client.
func (c *client) inputEnded() {
	c.s.mu.Lock()
	closes := c.s.spec.StdinOnce || c.s.spec.OneClient
	c.s.mu.Unlock()
	if closes {
		c.s.closeInput()
	}
}
