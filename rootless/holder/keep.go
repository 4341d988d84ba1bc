package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// Between tries to wake the daemon: its socket may be made anew just now.
const (
	firstWakePause   = 50 * time.Millisecond
	longestWakePause = time.Minute
)

// keeping holds the daemon's files while that is away, and wakes it when there
// is something to do with one of them.
type keeping struct {
	log *slog.Logger

	mu    sync.Mutex
	files []rootless.Kept
	stop  func() // ends the watch; nil while there is none
}

// serveKeeping answers at the state directory's socket until ctx ends.
func serveKeeping(ctx context.Context, stateDir string, log *slog.Logger) (wait func(), err error) {
	path := filepath.Join(stateDir, rootless.KeepSockFile)
	old := unix.Umask(0o177)
	l, err := (&net.ListenConfig{}).Listen(context.WithoutCancel(ctx), "unixpacket", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	k := &keeping{log: log}
	var tasks sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Accept
	tasks.Go(func() {
		defer stop()
		defer k.drop()
		for {
			c, err := l.Accept()
			if err != nil {
				if ctx.Err() == nil {
					log.Error("files of the daemon are not kept any more", "error", err)
				}
				return
			}
			tasks.Go(func() {
				end := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer end()
				k.serve(c.(*net.UnixConn))
			})
		}
	})
	return tasks.Wait, nil
}

// serve answers one connection.
func (k *keeping) serve(c *net.UnixConn) {
	defer c.Close()
	var given []rootless.Kept
	defer func() { closeKept(given) }()
	for {
		m, f, err := rootless.ReceiveKeep(c)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				k.log.Warn("the daemon's files cannot be received", "error", err)
				k.reply(c, rootless.KeepMessage{Op: rootless.KeepFailed, Error: err.Error()})
			}
			return
		}
		if (m.Op == rootless.KeepGive || m.Op == rootless.KeepPeer) != (f != nil) {
			if f != nil {
				_ = f.Close()
			}
			k.reply(c, rootless.KeepMessage{Op: rootless.KeepFailed, Error: fmt.Sprintf("the message %q makes no sense", m.Op)})
			return
		}
		switch m.Op {
		case rootless.KeepGive:
			given = append(given, rootless.Kept{Name: m.Name, File: f, Watch: m.Watch})
			continue
		case rootless.KeepCommit:
			err = k.commit(given, m.Wake)
			if err == nil {
				given = nil
			}
		case rootless.KeepPeer:
			var uid uint32
			if uid, err = peerUID(f); err == nil {
				k.reply(c, rootless.KeepMessage{Op: rootless.KeepPeer, UID: uid})
				continue
			}
		case rootless.KeepTake:
			err = k.take(c)
		case rootless.KeepDrop:
			k.drop()
		default:
			err = fmt.Errorf("the message %q is not known", m.Op)
		}
		if err != nil {
			k.reply(c, rootless.KeepMessage{Op: rootless.KeepFailed, Error: err.Error()})
			return
		}
		k.reply(c, rootless.KeepMessage{Op: rootless.KeepDone})
	}
}

// peerUID is the uid of who connected to the socket that f was accepted at. The
// kernel tells it in the user namespace of who asks, and this process is in the
// machine's.
func peerUID(f *os.File) (uid uint32, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		var cred *unix.Ucred
		var serr error
		err = raw.Control(func(fd uintptr) { cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
		if err = errors.Join(err, serr); err == nil {
			uid = cred.Uid
		}
	}
	return uid, errors.Join(err, f.Close())
}

func (k *keeping) reply(c *net.UnixConn, m rootless.KeepMessage) {
	if err := rootless.SendKeep(c, m, nil); err != nil {
		k.log.Warn("the daemon cannot be answered", "error", err)
	}
}

// commit keeps files in the place of what is kept, and watches.
func (k *keeping) commit(files []rootless.Kept, wake string) error {
	stop, err := watch(files, func() error { return k.wake(wake) })
	if err != nil {
		return err
	}
	k.mu.Lock()
	old, oldStop := k.files, k.stop
	k.files, k.stop = files, stop
	k.mu.Unlock()
	release(old, oldStop)
	k.log.Info("the daemon is away; its files are kept", "files", len(files))
	return nil
}

// take shows what is kept. It is not watched any more: the daemon is there.
func (k *keeping) take(c *net.UnixConn) error {
	k.mu.Lock()
	files, stop := k.files, k.stop
	k.stop = nil
	k.mu.Unlock()
	release(nil, stop)
	for _, f := range files {
		if f.Name == "" {
			continue
		}
		if err := rootless.SendKeep(c, rootless.KeepMessage{Op: rootless.KeepFile, Name: f.Name}, f.File); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeping) drop() {
	k.mu.Lock()
	files, stop := k.files, k.stop
	k.files, k.stop = nil, nil
	k.mu.Unlock()
	release(files, stop)
}

func release(files []rootless.Kept, stop func()) {
	if stop != nil {
		stop()
	}
	closeKept(files)
}

func closeKept(files []rootless.Kept) {
	for _, f := range files {
		_ = f.File.Close() // nothing was written through it here
	}
}

// wake connects to the daemon's socket: the service manager starts it.
func (k *keeping) wake(sock string) error {
	c, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", sock)
	if err != nil {
		return err
	}
	k.log.Info("the daemon is woken")
	return c.Close()
}
