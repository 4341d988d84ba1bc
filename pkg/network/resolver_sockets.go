package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// resolverSockets are what a resolver works with; duplicates are in the descriptor store.
type resolverSockets struct {
	udp     *net.UDPConn
	tcp     net.Listener
	pending *os.File // see pending; nil without a store
}

func (s resolverSockets) udpAddr() netip.AddrPort { return s.udp.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s resolverSockets) tcpPort() uint16 { return uint16(s.tcp.Addr().(*net.TCPAddr).Port) }

func (s resolverSockets) close() error {
	var errs []error
	if s.udp != nil {
		errs = append(errs, s.udp.Close())
	}
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	if s.pending != nil {
		errs = append(errs, s.pending.Close())
	}
	return errors.Join(errs...)
}

// resolverSockets takes over those of an earlier daemon, with the queries that wait
// in them, or opens new ones at an address.
func (n *Networks) resolverSockets(name string, at netip.Addr, open func() (resolverSockets, error)) (s resolverSockets, err error) {
	s = n.storedSockets(name)
	if s.udp != nil && s.tcp != nil && s.udpAddr().Addr() == at {
		if s.pending == nil && n.cfg.Sockets != nil { // of an older engine
			if s.pending, err = newPending(); err == nil {
				err = n.cfg.Sockets.Put(name, s.pending)
			}
		}
		if err != nil {
			err = errors.Join(err, s.close())
		}
		return s, err
	}
	if err := s.close(); err != nil {
		return s, err
	}
	if s, err = open(); err != nil {
		return s, err
	}
	if err := n.storeSockets(name, &s); err != nil {
		return s, errors.Join(err, s.close())
	}
	return s, nil
}

func (n *Networks) storedSockets(name string) (s resolverSockets) {
	if n.cfg.Sockets == nil {
		return s
	}
	for _, f := range n.cfg.Sockets.Take(name) {
		c, err := net.FilePacketConn(f)
		udp, isUDP := c.(*net.UDPConn)
		switch {
		case err == nil && isUDP && s.udp == nil:
			s.udp = udp
		case err != nil && s.pending == nil && !isSocket(f):
			s.pending = f
			continue
		}
		_ = f.Close() // duplicated
	}
	if all := n.cfg.Sockets.Listeners(name); len(all) > 0 {
		s.tcp = all[0]
	}
	return s
}

func isSocket(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var in error
	err = raw.Control(func(fd uintptr) { _, in = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE) })
	return err == nil && in == nil
}

func (n *Networks) storeSockets(name string, s *resolverSockets) error {
	if n.cfg.Sockets == nil {
		return nil
	}
	var err error
	if s.pending, err = newPending(); err != nil {
		return err
	}
	files := []*os.File{s.pending}
	for _, socket := range []any{s.udp, s.tcp} {
		f, err := socket.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
	}
	// Of an earlier run that ended badly.
	if err := n.cfg.Sockets.Remove(name); err != nil {
		return err
	}
	return n.cfg.Sockets.Put(name, files...)
}

// forgetSockets lets go of the stored sockets of containers that are gone.
func (n *Networks) forgetSockets(running map[moss.ContainerID]moss.Attachment) error {
	if n.cfg.Sockets == nil {
		return nil
	}
	var errs []error
	for _, name := range n.cfg.Sockets.Names() {
		id, ok := strings.CutSuffix(name, resolverSuffix)
		if _, runs := running[moss.ContainerID(id)]; !ok || runs || name == standInName {
			continue
		}
		for _, f := range n.cfg.Sockets.Take(name) {
			errs = append(errs, f.Close())
		}
		for _, l := range n.cfg.Sockets.Listeners(name) {
			errs = append(errs, l.Close())
		}
		errs = append(errs, n.cfg.Sockets.Remove(name))
	}
	return errors.Join(errs...)
}

// openResolver opens the sockets in a container's namespace. They are at other
// ports than 53, which the container may want for itself: the namespace's
// packet filter leads there.
func openResolver(netns string) (s resolverSockets, err error) {
	err = inNetNS(netns, func() error {
		if err := s.listen(moss.ResolverAddr); err != nil {
			return err
		}
		return ofContainer(s.udpAddr().Port(), s.tcpPort()).set()
	})
	if err != nil {
		err = errors.Join(err, s.close())
	}
	return s, err
}

// listen opens the sockets in the calling thread's namespace, at any free ports of an address.
func (s *resolverSockets) listen(at netip.Addr) (err error) {
	any := netip.AddrPortFrom(at, 0)
	if s.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(any)); err != nil {
		s.udp = nil
		return err
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(any))
	if err == nil {
		s.tcp = l
	}
	return err
}
