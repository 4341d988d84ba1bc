package stdio

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxDrain bounds what is read of a terminal after the process has ended:
// others may still write to it, and the kernel does not tell how much is there.
const maxDrain = 1 << 20

// pumpLocked starts the pumps of the ends that are there.
func (s *stream) pumpLocked() {
	for _, p := range []*pump{
		{source: s.ends.out, kind: moss.Stdout},
		{source: s.ends.err, kind: moss.Stderr},
		{source: s.hub.newSource(s.ends.tty), kind: moss.Stdout, tty: true},
	} {
		if p.source != nil {
			p.s, p.journal, p.sink = s, s.ends.journal, s.sink
			s.pumps.Go(p.run)
		}
	}
}

// pump moves one stream's output.
type pump struct {
	s       *stream
	source  *source
	heat    heat
	size    int // of the pipe while it is hot
	kind    moss.StreamKind
	tty     bool
	journal *journal // nil for reading straight
	sink    moss.LogSink
}

// run pumps until the pipe's end or until it is interrupted; then it moves
// what is left.
func (p *pump) run() {
	for {
		c, err := p.next()
		if err != nil {
			break
		}
		if c.buf != nil && !p.deliver(c) {
			return
		}
		p.heed()
	}
	left := maxDrain
	if !p.tty {
		if err := p.source.now(func(fd int) (err error) { left, err = pending(fd); return err }); err != nil {
			return
		}
	}
	for left > 0 {
		c := taken{buf: buffers.Get().(*[]byte)}
		c.err = p.source.now(func(fd int) (err error) {
			c.n, err = p.step(fd, (*c.buf)[:min(left, chunkSize)])
			return err
		})
		if !p.deliver(c) {
			return
		}
		left -= c.n
	}
}

// taken is what a read has brought.
type taken struct {
	buf *[]byte // nil where there was nothing yet
	n   int
	err error // with n > 0 the sink's
}

// next waits for output. The error is an interruption.
func (p *pump) next() (c taken, err error) {
	var at time.Time
	try := func(fd int) bool {
		at = time.Now()
		c.buf = buffers.Get().(*[]byte)
		if c.n, c.err = p.step(fd, *c.buf); !p.later(c.n, c.err) {
			return true
		}
		buffers.Put(c.buf) // a quiet process holds no buffer
		c.buf = nil
		return false
	}
	if p.heat.hot {
		err = p.source.waitUntil(p.heat.due(), func(fd int) { try(fd) })
	} else {
		err = p.source.wait(try)
	}
	if err == nil && !p.tty { // what one types on a terminal is to be seen at once
		p.heat.read(at, c.n, p.size)
	}
	return c, err
}

// heed has the source waited for as the heat says.
func (p *pump) heed() {
	switch {
	case p.heat.hot && !p.source.hot():
		size, err := p.source.heat()
		if p.size = size; err != nil {
			p.heat.leave(time.Now()) // it goes as well without
		}
	case !p.heat.hot && p.source.hot():
		p.source.cool()
	}
}

// later says that there is nothing to read now. A terminal whose last user has
// closed it may be opened again.
func (p *pump) later(n int, err error) bool {
	return n == 0 && (errors.Is(err, unix.EAGAIN) || p.tty && errors.Is(err, unix.EIO))
}

// step reads once and logs what it read. An error with n > 0 is the sink's.
func (p *pump) step(fd int, buf []byte) (int, error) {
	if p.tty {
		buf = buf[:min(len(buf), 8<<10)] // a terminal gives 4 KiB at most
	}
	if p.journal != nil {
		n, err := p.journal.step(fd, p.kind, buf)
		if n > 0 || !errors.Is(err, unix.EINVAL) {
			return n, err
		}
		p.journal = nil // this kernel cannot splice from a terminal
	}
	n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
	if n == 0 || err != nil || p.sink == nil {
		return n, err
	}
	return n, p.sink.Write(p.kind, time.Now(), buf[:n])
}

// deliver hands what was read to the clients, and with it the buffer. It says
// whether more can come.
func (p *pump) deliver(c taken) bool {
	if c.err != nil && (c.n > 0 || !errors.Is(c.err, unix.EAGAIN) && !errors.Is(c.err, unix.EIO)) {
		p.s.pumpFailed(c.err)
	}
	if c.n == 0 {
		buffers.Put(c.buf)
		return false
	}
	p.s.hub.moved.Now()
	p.s.broadcast(p.kind, c.buf, c.n)
	return true
}

func (s *stream) pumpFailed(err error) {
	s.mu.Lock()
	first := s.pumpErr == nil
	if first {
		s.pumpErr = err
	}
	s.mu.Unlock()
	if tell := s.hub.cfg.Failed; first && tell != nil {
		tell(s.id, err)
	}
}

// broadcast queues output at every client, waiting for slow ones.
func (s *stream) broadcast(kind moss.StreamKind, buf *[]byte, n int) {
	s.mu.Lock()
	boxes := make([]*outbox, 0, len(s.boxes))
	for b := range s.boxes {
		boxes = append(boxes, b)
	}
	s.mu.Unlock()
	c := &chunk{kind: kind, data: (*buf)[:n], buf: buf}
	if n < chunkSize/8 { // do not let a few bytes hold a whole buffer
		c.data, c.buf = append([]byte(nil), c.data...), nil
		buffers.Put(buf)
	}
	c.refs.Store(int32(len(boxes)) + 1)
	for _, b := range boxes {
		b.push(c)
	}
	c.release()
}
