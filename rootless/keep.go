package rootless

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// KeepSockFile is where the holder takes files into its keeping; a name in the
// state directory.
const KeepSockFile = "keep.sock"

// Kept is a file in the holder's keeping.
type Kept struct {
	Name  string
	File  *os.File
	Watch bool // wake the daemon as soon as it is readable, or its other side is gone
}

// The messages of the keeping socket, one a packet (unix(7), SOCK_SEQPACKET).
// Each connection has one purpose: gives and then a commit; a take; a drop; or
// questions about peers.
const (
	KeepGive   = "give"   // to the holder, with a file: Name, Watch
	KeepCommit = "commit" // to the holder: what was given takes the place of what is kept; Wake
	KeepTake   = "take"   // to the holder; the answers are a file each, then done
	KeepDrop   = "drop"   // to the holder: it closes all that is kept
	KeepPeer   = "peer"   // to the holder, with a connection; the answer has its UID
	KeepFile   = "file"   // from the holder, with a file: Name
	KeepDone   = "done"   // from the holder
	KeepFailed = "failed" // from the holder: Error
)

// KeepMessage is one of them.
type KeepMessage struct {
	Op    string `json:"op"`
	Name  string `json:"name,omitempty"`
	Watch bool   `json:"watch,omitempty"`
	Wake  string `json:"wake,omitempty"` // the unix socket to connect to when a watched file is readable
	UID   uint32 `json:"uid,omitempty"`
	Error string `json:"error,omitempty"`
}

// keepTimeout is how long the holder may take for one call.
const keepTimeout = 10 * time.Second

// mostKeepMessage is the size of the largest message.
const mostKeepMessage = 4096

// Keeper gives files into the holder's keeping and takes them back. The holder
// lives as long as containers do, and can keep what a service manager before
// systemd 254 forgets when the daemon ends for good: the descriptor store. It
// wakes the daemon by a connection to its socket.
type Keeper struct{ path string }

// NewKeeper makes a client for the holder of a state directory.
func NewKeeper(stateDir string) Keeper { return Keeper{filepath.Join(stateDir, KeepSockFile)} }

// Available says whether there is a holder that keeps files: one that was
// started by an older moss does not.
func (k Keeper) Available() bool {
	_, err := os.Lstat(k.path)
	return err == nil
}

// Give puts files into the holder's keeping in the place of all it has, at once
// or not at all. From then on it connects to the socket wake once a watched one
// is readable.
func (k Keeper) Give(ctx context.Context, files []Kept, wake string) error {
	return k.call(ctx, func(c *net.UnixConn) error {
		for _, f := range files {
			if err := SendKeep(c, KeepMessage{Op: KeepGive, Name: f.Name, Watch: f.Watch}, f.File); err != nil {
				return err
			}
		}
		if err := SendKeep(c, KeepMessage{Op: KeepCommit, Wake: wake}, nil); err != nil {
			return err
		}
		_, _, err := answer(c)
		return err
	})
}

// Take returns what is kept but for what is only watched, which has no name.
// The holder still has it too, and does not watch it any more.
func (k Keeper) Take(ctx context.Context) (files []Kept, err error) {
	err = k.call(ctx, func(c *net.UnixConn) error {
		if err := SendKeep(c, KeepMessage{Op: KeepTake}, nil); err != nil {
			return err
		}
		for {
			m, f, err := answer(c)
			if err != nil || m.Op == KeepDone {
				return err
			}
			files = append(files, Kept{Name: m.Name, File: f})
		}
	})
	if err != nil {
		for _, f := range files {
			_ = f.File.Close() // of no use alone
		}
		return nil, err
	}
	return files, nil
}

// Drop makes the holder close what it keeps.
func (k Keeper) Drop(ctx context.Context) error {
	return k.call(ctx, func(c *net.UnixConn) error {
		if err := SendKeep(c, KeepMessage{Op: KeepDrop}, nil); err != nil {
			return err
		}
		_, _, err := answer(c)
		return err
	})
}

// PeerUID is the uid of who connected to the unix socket that c was accepted at,
// as the holder sees it: outside the user namespace, in which all users that it
// does not map are one.
func (k Keeper) PeerUID(ctx context.Context, c syscall.Conn) (uid uint32, err error) {
	err = k.call(ctx, func(holder *net.UnixConn) error {
		if err := SendKeep(holder, KeepMessage{Op: KeepPeer}, c); err != nil {
			return err
		}
		m, _, err := answer(holder)
		if err == nil && m.Op != KeepPeer {
			err = fmt.Errorf("the answer %q makes no sense", m.Op)
		}
		uid = m.UID
		return err
	})
	return uid, err
}

func (k Keeper) call(ctx context.Context, fn func(*net.UnixConn) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	d := net.Dialer{}
	c, err := d.DialContext(ctx, "unixpacket", k.path)
	if err != nil {
		return fmt.Errorf("cannot reach the namespace holder: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := fn(c.(*net.UnixConn)); err != nil {
		return fmt.Errorf("the namespace holder: %w", err)
	}
	return nil
}

// answer reads what the holder says.
func answer(c *net.UnixConn) (KeepMessage, *os.File, error) {
	m, f, err := ReceiveKeep(c)
	switch {
	case errors.Is(err, io.EOF):
		return m, nil, io.ErrUnexpectedEOF
	case err != nil:
		return m, nil, err
	case m.Op == KeepFailed:
		return m, nil, errors.New(m.Error)
	case (m.Op == KeepFile) != (f != nil):
		return m, nil, fmt.Errorf("the answer %q makes no sense", m.Op)
	}
	return m, f, nil
}

// SendKeep sends a message, and a file or a connection with it unless that is nil.
func SendKeep(c *net.UnixConn, m KeepMessage, f syscall.Conn) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > mostKeepMessage {
		return fmt.Errorf("the name %.40q… is too long", m.Name)
	}
	if f == nil {
		_, err := c.Write(text)
		return err
	}
	// Not File.Fd, which would make the file blocking.
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { _, _, serr = c.WriteMsgUnix(text, unix.UnixRights(int(fd)), nil) })
	runtime.KeepAlive(f)
	return errors.Join(err, serr)
}

// ReceiveKeep receives a message, with its file if there is one.
func ReceiveKeep(c *net.UnixConn) (m KeepMessage, f *os.File, err error) {
	text, oob := make([]byte, mostKeepMessage+1), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		return m, nil, err
	}
	fds, err := rights.Received(oob[:oobn])
	if err == nil && len(fds) > 1 {
		err = errors.New("more than one file came with a message")
	}
	switch {
	case err != nil:
	case n == 0 && len(fds) == 0:
		err = io.EOF
	case n > mostKeepMessage:
		err = errors.New("a message is too long")
	default:
		err = json.Unmarshal(text[:n], &m)
	}
	if err != nil {
		rights.Close(fds)
		return m, nil, err
	}
	if len(fds) == 1 {
		f = os.NewFile(uintptr(fds[0]), m.Name)
	}
	return m, f, nil
}
