package stdio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxSpilled bounds, in bytes, what waits for one slow client on disk, and
// freeShare that it takes no more than this share of what is free there.
const (
	maxSpilled = 1 << 30
	freeShare  = 4
)

// recordHeader is the kind of a chunk and its length, of four bytes.
const recordHeader = 5

// disk is where what waits for slow clients goes.
type disk struct {
	dir  string
	most int64 // of one client
}

func (d disk) there() bool { return d.dir != "" }

// spill is a ring of chunks in a file that has no name: nothing is left of it
// when it is closed, or its daemon killed.
type spill struct {
	file       *os.File
	size       int64 // of the ring
	head, tail int64 // how much was read and written, ever; guarded by the outbox
}

// open makes a ring as large as the disk has room for.
func (d disk) open() (*spill, error) {
	f, err := nameless(d.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot keep what a slow client has not read: %w", err)
	}
	size := d.most
	var fs unix.Statfs_t
	if err := control(f, func(fd int) error { return unix.Fstatfs(fd, &fs) }); err == nil {
		size = min(size, int64(fs.Bavail)*fs.Bsize/freeShare) // zero is told by append
	}
	return &spill{file: f, size: size}, nil
}

// nameless makes a file without a name.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "spill"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f, err := os.CreateTemp(dir, "spill-") // a file system that has none without a name
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// append writes a chunk behind the last, where so much is used, and says by how
// much the tail moves. One writes at a time.
func (s *spill) append(c *chunk, used int64) (int64, error) {
	n := int64(recordHeader + len(c.data))
	if used+n > s.size {
		return 0, moss.Errorf(moss.Unavailable, "it reads too slowly: %d MiB of output wait for it, and no more is kept; logs --follow reads as slowly as one likes", used>>20)
	}
	record := make([]byte, 0, n)
	record = append(record, byte(c.kind))
	record = binary.BigEndian.AppendUint32(record, uint32(len(c.data)))
	record = append(record, c.data...)
	return n, s.around(s.tail, record, s.file.WriteAt)
}

// read reads the chunk at head, and says by how much the head moves.
func (s *spill) read(head int64) (*chunk, int64, error) {
	var h [recordHeader]byte
	if err := s.around(head, h[:], s.file.ReadAt); err != nil {
		return nil, 0, fmt.Errorf("cannot read back what a slow client lacks: %w", err)
	}
	buf := buffers.Get().(*[]byte)
	c := &chunk{kind: moss.StreamKind(h[0]), buf: buf}
	c.refs.Store(1)
	c.data = (*buf)[:min(int(binary.BigEndian.Uint32(h[1:])), len(*buf))] // no chunk is larger
	if err := s.around(head+recordHeader, c.data, s.file.ReadAt); err != nil {
		c.release()
		return nil, 0, fmt.Errorf("cannot read back what a slow client lacks: %w", err)
	}
	return c, int64(recordHeader + len(c.data)), nil
}

// around reads or writes p at a place of the ring.
func (s *spill) around(at int64, p []byte, do func([]byte, int64) (int, error)) error {
	at %= s.size
	first := min(int64(len(p)), s.size-at)
	if _, err := do(p[:first], at); err != nil {
		return err
	}
	if first == int64(len(p)) {
		return nil
	}
	_, err := do(p[first:], 0)
	return err
}

func (s *spill) close() { _ = s.file.Close() } // nothing of it is to stay
