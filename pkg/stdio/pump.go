package stdio

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxDrain bounds what is read of a terminal after the process has ended:
// others may still write to it, and the kernel does not tell how much is there.
const maxDrain = 1 << 20

// interrupt makes the pump of a file stop waiting.
func interrupt(f *os.File) { _ = f.SetReadDeadline(time.Unix(1, 0)) } // known to the poller

// pumpLocked starts the pumps of the ends that are there.
func (s *stream) pumpLocked() {
	for _, p := range []*pump{
		{file: s.ends.out, kind: moss.Stdout},
		{file: s.ends.err, kind: moss.Stderr},
		{file: s.ends.tty, kind: moss.Stdout, tty: true},
	} {
		if p.file != nil {
			p.s, p.journal, p.sink = s, s.ends.journal, s.sink
			s.pumps.Go(p.run)
		}
	}
}

// pump moves one stream's output.
type pump struct {
	s       *stream
	file    *os.File
	kind    moss.StreamKind
	tty     bool
	journal *journal // nil for reading straight
	sink    moss.LogSink
}

// run pumps until the pipe's end or until it is interrupted; then it moves
// what is left.
func (p *pump) run() {
	rc, err := p.file.SyscallConn()
	if err != nil {
		return // closed
	}
	for {
		var n int
		var stepErr error
		var buf *[]byte
		err := rc.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			if n, stepErr = p.step(int(fd), *buf); !p.later(n, stepErr) {
				return true
			}
			buffers.Put(buf) // a quiet process holds no buffer
			return false
		})
		if err != nil {
			break
		}
		if !p.deliver(buf, n, stepErr) {
			return
		}
	}
	left := maxDrain
	if !p.tty {
		if err := control(p.file, func(fd int) (err error) { left, err = pending(fd); return err }); err != nil {
			return
		}
	}
	for left > 0 {
		var n int
		buf := buffers.Get().(*[]byte)
		err := control(p.file, func(fd int) (err error) {
			n, err = p.step(fd, (*buf)[:min(left, chunkSize)])
			return err
		})
		if !p.deliver(buf, n, err) {
			return
		}
		left -= n
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
func (p *pump) deliver(buf *[]byte, n int, err error) bool {
	if err != nil && (n > 0 || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EIO)) {
		p.s.pumpFailed(err)
	}
	if n == 0 {
		buffers.Put(buf)
		return false
	}
	p.s.hub.move()
	p.s.broadcast(p.kind, buf, n)
	return true
}

func (s *stream) pumpFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pumpErr == nil {
		s.pumpErr = err
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
