package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where journald takes entries.
const Socket = "/run/systemd/journal/socket"

// maxDatagram is the most that is sent at once; more goes in a file in memory.
const maxDatagram = 96 << 10

// patience bounds how long a journal that does not read holds up its writer.
const patience = 30 * time.Second

// AppendField appends a field of an entry. An entry ends with an empty line:
// [AppendEnd].
func AppendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(b, '=')
		b = append(b, value...)
		return append(b, '\n')
	}
	b = append(b, '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	b = append(b, value...)
	return append(b, '\n')
}

// AppendEnd ends an entry.
func AppendEnd(b []byte) []byte { return append(b, '\n') }

// FieldName makes a name that journald takes for a field: capital letters,
// digits and underscores, beginning with neither of the latter.
func FieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, s)
	s = strings.TrimLeft(s, "_0123456789")
	return s[:min(len(s), 64)]
}

// Conn is a way to journald. Its methods may be called from several goroutines.
type Conn struct {
	path string
	mu   sync.Mutex
	c    *net.UnixConn
}

// Dial connects to a journald's socket.
func Dial(path string) (*Conn, error) {
	c := &Conn{path: path}
	return c, c.dial()
}

func (c *Conn) dial() error {
	u, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: c.path, Net: "unixgram"})
	if err != nil {
		return err
	}
	_ = u.SetWriteBuffer(8 << 20) // as much as the system allows
	c.c = u
	return nil
}

// Send sends complete entries, at once.
func (c *Conn) Send(entries []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.sendLocked(entries)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNRESET) {
		_ = c.c.Close() // journald has begun anew
		if err = c.dial(); err == nil {
			err = c.sendLocked(entries)
		}
	}
	return err
}

func (c *Conn) sendLocked(entries []byte) error {
	if err := c.c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if len(entries) <= maxDatagram {
		_, err := c.c.Write(entries)
		if !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
	}
	return c.sendFile(entries)
}

// sendFile sends entries in a sealed file in memory.
func (c *Conn) sendFile(entries []byte) error {
	fd, err := unix.MemfdCreate("moss-log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "moss-log")
	defer f.Close() // the message has its own
	if _, err := f.Write(entries); err != nil {
		return err
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	_, _, err = c.c.WriteMsgUnix(nil, unix.UnixRights(int(f.Fd())), nil)
	return err
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.c.Close()
}
