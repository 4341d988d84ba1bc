package stdio

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/rights"
)

// maxSocketPath is the longest path of a unix socket (unix(7)).
const maxSocketPath = 107

// console waits at a socket for the terminal that the OCI runtime sends.
type console struct {
	path string
	l    *net.UnixListener
}

// listenConsole opens the socket of a stream. The name is short, as the path of
// a socket is bounded.
func listenConsole(dir string, id moss.StreamID) (*console, error) {
	path := filepath.Join(dir, string(id[:min(len(id), 20)]))
	if len(path) > maxSocketPath {
		return nil, moss.Errorf(moss.Unavailable, "the path of the console socket, %q, is longer than %d bytes: set XDG_RUNTIME_DIR to a shorter path", path, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &console{path: path, l: l}, nil
}

// close ends receive and removes the socket.
func (c *console) close() { _ = c.l.Close() }

// receive returns the terminal, ready for the poller. Connections that bring
// none are turned away.
func (c *console) receive() (*os.File, error) {
	defer c.close()
	var bad error
	for {
		conn, err := c.l.AcceptUnix()
		if err != nil {
			return nil, errors.Join(bad, err)
		}
		f, err := receiveTerminal(conn)
		_ = conn.Close() // was only read
		if err == nil {
			return f, nil
		}
		bad = err
	}
}

func receiveTerminal(conn *net.UnixConn) (*os.File, error) {
	name := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	fds, err := rights.Received(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	if len(fds) != 1 {
		rights.Close(fds)
		return nil, fmt.Errorf("the runtime sent %d descriptors, not one terminal", len(fds))
	}
	if _, err := unix.IoctlGetWinsize(fds[0], unix.TIOCGWINSZ); err != nil {
		rights.Close(fds)
		return nil, fmt.Errorf("the runtime sent something that is no terminal: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		rights.Close(fds)
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), string(name[:n])), nil
}

// setSize sets a terminal's size; the zero size means leave it.
func setSize(tty *os.File, s moss.TermSize) error {
	if s == (moss.TermSize{}) {
		return nil
	}
	return control(tty, func(fd int) error {
		return os.NewSyscallError("ioctl TIOCSWINSZ", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols}))
	})
}

// interrupts says whether what is typed interrupts the terminal's processes:
// then the terminal forgets what it has not shown yet (termios(3), NOFLSH), and
// so do we.
func (s *stream) interrupts(in *os.File, typed []byte) bool {
	s.mu.Lock()
	tty := s.ends != nil && s.ends.tty == in
	s.mu.Unlock()
	if !tty || len(typed) == 0 {
		return false
	}
	var mode *unix.Termios
	if err := control(in, func(fd int) (err error) { mode, err = unix.IoctlGetTermios(fd, unix.TCGETS); return err }); err != nil {
		return false
	}
	if mode.Lflag&unix.ISIG == 0 || mode.Lflag&unix.NOFLSH != 0 {
		return false
	}
	for _, key := range []int{unix.VINTR, unix.VQUIT, unix.VSUSP} {
		if c := mode.Cc[key]; c != 0 && bytes.IndexByte(typed, c) >= 0 {
			return true
		}
	}
	return false
}
