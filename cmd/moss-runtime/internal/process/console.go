package process

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/console"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// DialConsole connects to the socket which will be sent the master of the
// process's terminal, and attaches it. Close the returned file after the start.
func DialConsole(lp *libcontainer.Process, path string) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	sock := os.NewFile(uintptr(fd), "console-socket")
	if err := connect(fd, path); err != nil {
		sock.Close()
		return nil, fmt.Errorf("cannot connect to the console socket %s: %w", path, err)
	}
	lp.ConsoleSocket = sock
	return sock, nil
}

// connect reaches sockets whose path is longer than a socket address may be
// (108 bytes) by way of their directory.
func connect(fd int, path string) error {
	if len(path) < 108 {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	short := filepath.Join("/proc/self/fd", strconv.Itoa(dir), filepath.Base(path))
	return unix.Connect(fd, &unix.SockaddrUnix{Name: short})
}

// Terminal joins the caller's terminal to that of a process in the foreground.
type Terminal struct {
	host   console.Console
	socket *os.File // where the master arrives
	child  *os.File // the end the process sends it from
	master console.Console
	done   chan struct{}
}

// NewTerminal attaches a terminal to lp that this process will serve itself,
// on its own controlling terminal.
func NewTerminal(lp *libcontainer.Process) (*Terminal, error) {
	host, err := console.ConsoleFromFile(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("cannot attach a terminal: stdin is none (use --console-socket to pass it elsewhere): %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	t := &Terminal{
		host:   host,
		socket: os.NewFile(uintptr(pair[0]), "console"),
		child:  os.NewFile(uintptr(pair[1]), "console-child"),
		done:   make(chan struct{}),
	}
	lp.ConsoleSocket = t.child
	return t, nil
}

// Serve takes the master over and copies both ways until the process has
// closed its end. Call it when the process has been started.
func (t *Terminal) Serve() error {
	t.child.Close()
	defer t.socket.Close()
	master, err := receiveFile(t.socket)
	if err != nil {
		return fmt.Errorf("cannot attach a terminal: %w", err)
	}
	if t.master, err = console.ConsoleFromFile(master); err != nil {
		return fmt.Errorf("cannot attach a terminal: %w", err)
	}
	t.Resize()
	if err := t.host.SetRaw(); err != nil {
		return fmt.Errorf("cannot attach a terminal: %w", err)
	}
	go func() { _, _ = io.Copy(t.master, os.Stdin) }()
	go func() {
		defer close(t.done)
		// Ends with EIO when the last holder of the other side is gone.
		_, _ = io.Copy(os.Stdout, t.master)
	}()
	return nil
}

// Resize passes the size of the caller's terminal on.
func (t *Terminal) Resize() {
	if t.master != nil {
		// A terminal that has gone away has no size; nobody looks at it either.
		_ = t.master.ResizeFrom(t.host)
	}
}

// Close waits for the rest of the output and restores the caller's terminal.
func (t *Terminal) Close() error {
	if t.master == nil {
		t.child.Close()
		return t.socket.Close()
	}
	<-t.done
	return t.host.Reset()
}

// receiveFile reads the one descriptor sent over sock.
func receiveFile(sock *os.File) (*os.File, error) {
	name := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(sock.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	fds, err := rights.Received(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		rights.Close(fds)
		return nil, fmt.Errorf("expected one descriptor, got %d", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), string(name[:n])), nil
}
