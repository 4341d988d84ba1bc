package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Detach undoes Attach and closes ports still open; nil when nothing is left.
func (n *Networks) Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	errs := []error{n.unpublish(ctx, id, a), n.stopResolver(id)} //nolint:contextcheck // also where the caller's is over
	for _, i := range a.Interfaces() {
		if i.HostLink != "" {
			errs = append(errs, n.dismissLink(i.HostLink))
		}
	}
	if len(a.Interfaces()) == 0 && a.Mode != moss.NetworkHost && a.Mode != moss.NetworkNone {
		errs = append(errs, n.dismissLink(hostLink(id))) // of a start that was cut short
	}
	errs = append(errs, removeNetNS(n.path(id)))
	err := errors.Join(errs...)
	if err != nil {
		return moss.Wrap(err, "detach from network "+string(a.Mode)+" container", n.name(id))
	}
	// Only now: nobody else may get the address while the link is in its network.
	for _, i := range a.Interfaces() {
		n.release(id, i)
	}
	n.setName(id, "")
	n.setPorts(id, false)
	return nil
}

// undoInterface takes one link away and gives its addresses back.
func (n *Networks) undoInterface(id moss.ContainerID, i moss.Interface) error {
	if err := n.removeLink(i.HostLink); err != nil {
		return err
	}
	n.release(id, i)
	return nil
}

// release gives the addresses of an interface that is gone back.
func (n *Networks) release(id moss.ContainerID, i moss.Interface) {
	p := n.placeOf(i.Network)
	if p == nil {
		return
	}
	if i.Address.IsValid() {
		p.v4.release(id, i.Address.Addr())
	}
	if i.Address6.IsValid() {
		p.v6.release(id, i.Address6.Addr())
	}
	n.zone.remove(id, i.Network)
	n.leave(p, id)
}

// removeLink takes a link away; nil when there is none.
func (n *Networks) removeLink(name string) error {
	link, err := n.handle.LinkByName(name)
	if err == nil {
		err = n.handle.LinkDel(link)
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("cannot remove the link %s: %w", name, err)
	}
	return nil
}

// dismissLink takes a link out of its network at once, and away behind: the kernel
// is busy for tens of milliseconds with the end of one, and nobody waits for that.
// Who makes one of the same name meanwhile removes it first, see connect. It would
// go with its namespace as well.
func (n *Networks) dismissLink(name string) error {
	link, err := n.handle.LinkByName(name)
	if err == nil {
		err = n.handle.LinkSetNoMaster(link)
	}
	if err == nil {
		err = n.handle.LinkSetDown(link)
	}
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot take the link %s out of its network: %w", name, err)
	}
	// By its index, and over a connection of its own: an answer takes as long as the end.
	n.dismissed.Go(func() { _ = n.slow.LinkDel(link) })
	return nil
}

// isGone says whether a link is not there (any more): it may go with its namespace at any time.
func isGone(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV)
}
