package holder

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// relay passes bytes on between two connections, which the kernel does from socket
// to socket, until both directions have ended, and closes both. What ends one, ends
// the other in the same way: a half by a half, a reset by a reset.
func relay(a, b *net.TCPConn) {
	var (
		back   sync.WaitGroup
		broken atomic.Bool
	)
	back.Go(func() { pass(a, b, &broken) })
	pass(b, a, &broken)
	back.Wait()
	for _, c := range []*net.TCPConn{a, b} {
		if broken.Load() {
			_ = c.SetLinger(0) // it may be gone
		}
		_ = c.Close()
	}
}

// pass copies one direction to its end.
func pass(to, from *net.TCPConn, broken *atomic.Bool) {
	_, err := io.Copy(to, from)
	switch {
	case err == nil && !broken.Load():
		_ = to.CloseWrite() // it may be gone
	case err == nil: // what was left of one that is gone
	case isOver(to):
		// It may have said something before it went: that is passed on first. The other
		// direction ends with it.
		broken.Store(true)
	default:
		broken.Store(true)
		_ = to.SetLinger(0)
		_ = to.Close()
		_ = from.Close()
	}
}

// tcpClose is a connection's state when it is over, see tcp(7).
const tcpClose = 7

// isOver says whether a connection is over: it was reset, or there was no answer for too long.
func isOver(c *net.TCPConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true
	}
	over := true
	err = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		over = err != nil || info.State == tcpClose
	})
	return err != nil || over
}
