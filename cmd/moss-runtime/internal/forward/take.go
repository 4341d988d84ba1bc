package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// mostSockets is how many descriptors go in one message, see unix(7).
const mostSockets = 253

// Entry are the listening sockets of a container, and the way to tell who has them now.
type Entry struct {
	Files []*os.File
	names string
	conn  *net.UnixConn
}

// Take gets the sockets of a container that is being created, at the socket of
// its socket unit: whose service starts with that, where it does not run.
func Take(path string) (*Entry, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot get the container's listening sockets: %w: its socket unit is not active; it is started with the engine: systemctl --user restart moss", err)
	}
	e := &Entry{conn: conn}
	text, fds, err := receive(conn, mostSockets)
	if err == nil && len(fds) == 0 {
		err = errors.New("none came")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot get the container's listening sockets: %w", err), conn.Close())
	}
	e.names = text
	for _, fd := range fds {
		e.Files = append(e.Files, os.NewFile(uintptr(fd), "socket"))
	}
	return e, nil
}

// Environment is env with what sd_listen_fds(3) looks for in the container's first process.
func (e *Entry) Environment(env []string) []string {
	var out []string
	for _, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); k != "LISTEN_FDS" && k != "LISTEN_PID" && k != "LISTEN_FDNAMES" {
			out = append(out, kv)
		}
	}
	return append(out, "LISTEN_FDS="+strconv.Itoa(len(e.Files)), "LISTEN_PID=1", "LISTEN_FDNAMES="+e.names)
}

// Tell says which process has the sockets now; when it ends they are looked at again.
func (e *Entry) Tell(p interface{ Pid() (int, error) }) error {
	pid, err := p.Pid()
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		err = errors.Join(send(e.conn, "pid", fd), unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("cannot tell who has the listening sockets: %w", err)
	}
	return nil
}

// Close lets go of them; the container has its own.
func (e *Entry) Close() error {
	errs := []error{e.conn.Close()}
	for _, f := range e.Files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// send sends descriptors with a text.
func send(c *net.UnixConn, text string, fds ...int) error {
	_, _, err := c.WriteMsgUnix([]byte(text), unix.UnixRights(fds...), nil)
	return err
}

// receive gets a text and at most so many descriptors.
func receive(c *net.UnixConn, most int) (string, []int, error) {
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*most))
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		return "", nil, err
	}
	fds, err := rights.Received(oob[:oobn])
	if err != nil {
		return "", nil, err
	}
	return string(text[:n]), fds, nil
}
