package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Restore takes over what running containers have and removes everything else
// of ours: namespaces, links and ports of containers that are gone.
func (n *Networks) Restore(ctx context.Context, running map[moss.ContainerID]moss.Attachment) error {
	var errs []error
	links, files := map[string]bool{}, map[string]bool{}
	ports := map[Port]bool{}
	opened := map[moss.ContainerID][]gate{}
	for id, a := range running {
		if a.NetNS != "" {
			files[filepath.Base(a.NetNS)] = true
		}
		for _, i := range a.Interfaces() {
			if i.HostLink != "" {
				links[i.HostLink] = true
				errs = append(errs, n.keep(id, i))
			}
		}
		for _, p := range a.Published {
			for _, to := range []netip.Addr{a.Address.Addr(), a.Address6.Addr()} { // an older engine chose otherwise
				ports[port(to, p.Binding)] = true
			}
		}
		if g := gates(a, a.Published); len(g) > 0 {
			opened[id] = g
		}
		n.setPorts(id, len(a.Published) > 0)
		for _, i := range a.Interfaces() {
			n.zone.add(id, i)
		}
	}
	// Now that all names are known, those who asked while the daemon was away get their answers.
	for id, a := range running {
		if a.NetNS != "" && len(a.DNS) == 1 && a.DNS[0] == moss.ResolverAddr {
			errs = append(errs, n.startResolver(id, a))
		}
	}
	n.mu.Lock()
	n.gates = opened
	n.mu.Unlock()
	errs = append(errs, n.standIn(), n.resetGates(), n.forgetSockets(running), n.removeStrayPorts(ctx, ports), n.removeStrayLinks(links), n.removeStrayFiles(files)) //nolint:contextcheck // resolvers end by themselves
	return moss.Wrap(errors.Join(errs...), "restore the networks", "")
}

func (n *Networks) removeStrayPorts(ctx context.Context, keep map[Port]bool) error {
	open, err := n.cfg.Ports.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the open ports: %w", err)
	}
	var errs []error
	for id, p := range open {
		if !keep[p] {
			errs = append(errs, n.closePort(ctx, id))
		}
	}
	return errors.Join(errs...)
}

func (n *Networks) removeStrayLinks(keep map[string]bool) error {
	links, err := n.handle.LinkList()
	if err != nil {
		return fmt.Errorf("cannot list the links: %w", err)
	}
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		ours := l.Type() == "veth" && strings.HasPrefix(name, linkPrefix) && len(name) >= len(linkPrefix)+12
		if ours && !keep[name] {
			errs = append(errs, n.removeLink(name))
		}
	}
	return errors.Join(errs...)
}

func (n *Networks) removeStrayFiles(keep map[string]bool) error {
	entries, err := os.ReadDir(n.cfg.Dir)
	if err != nil {
		return fmt.Errorf("cannot list the network namespaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !keep[e.Name()] {
			errs = append(errs, removeNetNS(filepath.Join(n.cfg.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// keep takes over an end point that an earlier engine made.
func (n *Networks) keep(id moss.ContainerID, i moss.Interface) error {
	p := n.placeOf(i.Network)
	if p == nil {
		return moss.Errorf(moss.NotFound, "network %s of container %s is not there", i.Network, id.Short())
	}
	n.mu.Lock()
	p.users[id] = i.Endpoint
	n.mu.Unlock()
	var errs []error
	if i.Address.IsValid() {
		errs = append(errs, p.v4.keep(id, i.Address.Addr()))
	}
	if i.Address6.IsValid() {
		errs = append(errs, p.v6.keep(id, i.Address6.Addr()))
	}
	return errors.Join(errs...)
}
