package holder

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rootless-containers/rootlesskit/v3/pkg/lowlevelmsgutil"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/opaque"
	"golang.org/x/sys/unix"
)

// portDriver is the namespaces' side of the port driver. The parent accepts a
// connection on the host and copies; the sockets to containers come from here,
// as descriptors: of TCP many at once and not connected yet (see socketPool), of
// UDP one for each client, as with rootlesskit's builtin driver.
//
// rootlesskit's own needs iptables(8) to keep the client's address, enters the
// network namespace with a new thread for every connection, and dials there.
// This one has one thread in the namespace that only makes sockets, and speaks
// netlink (see transparent.go).
type portDriver struct {
	log   *slog.Logger
	ready func() // called once the parent has said hello

	ns     *nsThread
	source achievement // the set-up of replies to foreign addresses
	wayOut sync.Once   // asked for by the parent
}

// tellOfSource tells of connections from our own address and, when that is over, of it.
func tellOfSource(log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Warn("published ports do not keep the client's address for now", "error", err)
		} else {
			log.Info("published ports keep the client's address again")
		}
	}
}

// RunChildDriver serves until quit.
func (d *portDriver) RunChildDriver(op map[string]string, quit <-chan struct{}, netns string) error {
	ns, err := startNSThread(netns)
	if err != nil {
		return err
	}
	d.ns = ns
	d.source.try = func() error { return ns.do(setupSourceRouting) }
	d.source.told = tellOfSource(d.log) // and no pause: the parent makes one
	// The parent reads this pipe to its end before it connects.
	pipe, err := os.OpenFile(op[opaque.ChildReadyPipePath], os.O_WRONLY, os.ModeNamedPipe)
	if err != nil {
		return fmt.Errorf("cannot serve published ports: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: op[opaque.SocketPath], Net: "unix"})
	if err := errors.Join(err, pipe.Close()); err != nil {
		return fmt.Errorf("cannot serve published ports: %w", err)
	}
	var stopped atomic.Bool
	go func() {
		<-quit
		stopped.Store(true)
		ln.Close()
	}()
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			if stopped.Load() {
				return nil
			}
			return fmt.Errorf("cannot serve published ports: %w", err)
		}
		go d.serve(c)
	}
}

func (d *portDriver) serve(c *net.UnixConn) {
	defer c.Close()
	if err := d.answer(c); err != nil {
		d.log.Debug("published port", "error", err)
		_, _ = lowlevelmsgutil.MarshalToWriter(c, &msg.Reply{Error: err.Error()}) // the parent may be gone
	}
}

func (d *portDriver) answer(c *net.UnixConn) error {
	var req msg.Request
	if _, err := lowlevelmsgutil.UnmarshalFromReader(c, &req); err != nil {
		return err
	}
	switch req.Type {
	case msg.RequestTypeInit:
		if d.ready != nil {
			d.ready()
		}
		_, err := lowlevelmsgutil.MarshalToWriter(c, nil)
		return err
	case requestSockets:
		return d.sendSockets(c, req.Proto)
	case requestSource:
		if !d.source.ok() {
			return errors.New("connections from foreign addresses would not find back")
		}
		_, err := c.Write([]byte(okAnswer))
		return err
	case requestOutward:
		err := errors.New("the way out has been asked for before")
		d.wayOut.Do(func() { err = startOutward(d.ns, d.log) })
		if err == nil {
			_, err = c.Write([]byte(okAnswer))
		}
		return err
	case msg.RequestTypeConnect:
		f, err := d.connect(req)
		if err != nil {
			return err
		}
		defer f.Close()
		rc, err := f.SyscallConn()
		if err != nil {
			return err
		}
		var sent error
		err = rc.Control(func(fd uintptr) {
			_, _, sent = c.WriteMsgUnix([]byte("fd"), unix.UnixRights(int(fd)), nil)
		})
		return errors.Join(err, sent)
	}
	return fmt.Errorf("unknown request %q", req.Type)
}

// connect makes a UDP socket that is connected to the container.
func (d *portDriver) connect(req msg.Request) (*os.File, error) {
	ip, err := netip.ParseAddr(req.IP)
	if err != nil {
		return nil, fmt.Errorf("address of the container: %w", err)
	}
	if !strings.HasPrefix(req.Proto, "udp") {
		return nil, fmt.Errorf("cannot connect with the protocol %q", req.Proto)
	}
	fds, err := d.ns.makeSockets(family(ip.Unmap()), unix.SOCK_DGRAM, 1)
	if err != nil {
		return nil, err
	}
	return connect(fds[0], netip.AddrPortFrom(ip.Unmap(), uint16(req.Port)), netip.AddrPort{}, plainTimeout)
}
