package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Attach makes the network namespace of a container and its links; in the host's
// network it makes nothing. What an earlier run left is replaced.
func (n *Networks) Attach(ctx context.Context, c *moss.Container) (moss.Attachment, error) {
	if err := ctx.Err(); err != nil {
		return moss.Attachment{}, err
	}
	mode := c.Host.NetworkMode
	if mode == "" || mode == "default" {
		mode = moss.NetworkBridge
	}
	n.setName(c.ID, c.Name)
	a := moss.Attachment{Mode: mode, Search: n.cfg.Search, Options: n.cfg.Options}
	if n.cfg.Host != nil {
		a.HostIP, a.HostIP2 = n.cfg.Host(), n.cfg.Host2
	}
	var err error
	switch {
	case mode == moss.NetworkHost:
		a.DNS = n.cfg.Upstreams
		a.Interface = moss.Interface{Network: networkID(mode), Name: string(mode), Endpoint: moss.NewHexID()}
	case mode == moss.NetworkNone:
		a.Interface = moss.Interface{Network: networkID(mode), Name: string(mode), Endpoint: moss.NewHexID()}
		err = n.attachNone(c.ID, &a)
	case strings.HasPrefix(string(mode), "container:"):
		err = moss.Errorf(moss.NotImplemented, "network mode %q is not supported; use bridge, host or none", mode)
	default:
		err = n.attachBridges(c, &a) //nolint:contextcheck // its undoing has a time of its own
	}
	if err == nil && c.IDMaps != nil && a.NetNS != "" {
		if err = n.setForOwnUserns(c, a.NetNS); err != nil {
			err = errors.Join(err, n.Detach(context.WithoutCancel(ctx), c.ID, a))
		}
	}
	if err != nil {
		n.setName(c.ID, "")
		if moss.ClassOf(err) == moss.NotFound {
			return moss.Attachment{}, err
		}
		return moss.Attachment{}, moss.Wrap(err, "attach to network "+string(mode)+" container", c.Name)
	}
	return a, nil
}

// setForOwnUserns sets the parameters of the network of a container that has a
// user namespace of its own: the network belongs to the engine's, and only from
// there can they be set. The first ones are docker's defaults, as in pkg/runtime.
func (n *Networks) setForOwnUserns(c *moss.Container, netns string) error {
	first, last := uint32(math.MaxUint32), uint32(0)
	for _, m := range c.IDMaps.GIDs {
		first, last = min(first, m.Engine), max(last, m.Engine+m.Size-1)
	}
	all := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": fmt.Sprintf("%d %d", first, last)}
	asked := map[string]bool{}
	for name, value := range c.Host.Sysctls {
		if name = strings.ReplaceAll(name, "/", "."); strings.HasPrefix(name, "net.") {
			all[name], asked[name] = value, true
		}
	}
	return inNetNS(netns, func() error {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			path := strings.ReplaceAll(name, ".", "/")
			if !asked[name] {
				if err := setSysctl(path, all[name]); err != nil {
					return err
				}
				continue
			}
			if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(all[name]), 0); err != nil {
				return moss.Errorf(moss.Invalid, "invalid sysctl %q: cannot set it to %q: %w", name, all[name], err)
			}
		}
		return nil
	})
}

func (n *Networks) attachNone(id moss.ContainerID, a *moss.Attachment) error {
	s, err := n.makeSpace(id)
	if err != nil {
		return err
	}
	s.Close()
	a.NetNS, a.Sandbox = n.path(id), moss.NewHexID()
	return nil
}

// makeSpace makes the container's namespace in place of what is there.
func (n *Networks) makeSpace(id moss.ContainerID) (*space, error) {
	s, err := makeNetNS(n.path(id))
	if !errors.Is(err, os.ErrExist) {
		return s, err
	}
	if err := errors.Join(n.removeLink(hostLink(id)), removeNetNS(n.path(id))); err != nil {
		return nil, err
	}
	return makeNetNS(n.path(id))
}

func (n *Networks) attachBridges(c *moss.Container, a *moss.Attachment) (err error) {
	wanted := c.WantedEndpoints()
	names := make([]string, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	// Those whose links have names of their own first: nobody else is to have these.
	slices.SortFunc(names, func(a, b string) int {
		own := func(name string) int {
			return map[bool]int{true: 1}[wanted[name].DriverOpts[moss.EndpointIfname] == ""]
		}
		return cmp.Or(cmp.Compare(own(a), own(b)), strings.Compare(a, b))
	})
	// Before anything is made: a network that is not there.
	n.mu.Lock()
	for _, name := range names {
		if n.lookupLocked(name) == nil {
			err = moss.Errorf(moss.NotFound, "network %s not found", name)
		}
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	s, err := n.makeSpace(c.ID)
	if err != nil {
		return err
	}
	defer s.Close()
	var made []moss.Interface
	defer func() {
		if err == nil {
			return
		}
		errs := []error{err}
		for _, i := range made {
			errs = append(errs, n.undoInterface(c.ID, i))
		}
		errs = append(errs, n.stopResolver(c.ID))
		err = errors.Join(append(errs, removeNetNS(n.path(c.ID)))...)
	}()
	for _, name := range names {
		i, err := n.join(c.ID, s, name, wanted[name], made)
		if err != nil {
			return err
		}
		i.Names = n.namesIn(c, i, wanted[name])
		if i.Links, err = linksIn(wanted[name]); err != nil {
			return errors.Join(err, n.undoInterface(c.ID, i))
		}
		n.zone.add(c.ID, i)
		made = append(made, i)
	}
	a.NetNS, a.Sandbox = n.path(c.ID), moss.NewHexID()
	a.DNS = n.cfg.DNS
	if len(made) == 0 { // it was taken out of all
		return nil
	}
	slices.SortStableFunc(made, byGateway)
	if err := s.setRoute(made[0]); err != nil {
		return err
	}
	a.Interface, a.Others = made[0], made[1:]
	if resolves(*a) {
		a.DNS, a.Upstreams = []netip.Addr{moss.ResolverAddr}, c.Host.DNS
		return n.startResolver(c.ID, *a)
	}
	return n.standIn()
}

// byGateway is the order in which networks are asked for the default route:
// those with a way out, the highest priority, the name.
func byGateway(a, b moss.Interface) int {
	if a.Internal != b.Internal {
		return map[bool]int{true: 1, false: -1}[a.Internal]
	}
	return cmp.Or(cmp.Compare(b.GwPriority, a.GwPriority), strings.Compare(a.Name, b.Name))
}

// join gives a container an end point in a network, and its namespace the link.
func (n *Networks) join(id moss.ContainerID, s *space, ref string, want moss.Endpoint, have []moss.Interface) (i moss.Interface, err error) {
	number, link, err := freeLink(id, want.DriverOpts[moss.EndpointIfname], have)
	if err != nil {
		return i, err
	}
	if err := n.isolated(); err != nil {
		return i, err
	}
	p, end, err := n.enter(ref, id)
	if err != nil {
		return i, err
	}
	i = moss.Interface{
		Network: p.ID, Name: p.Name, Link: link, Endpoint: end, HostLink: numberedLink(id, number),
		Internal: p.Internal, GwPriority: want.GwPriority, MAC: want.MAC,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.undoInterface(id, i))
		}
	}()
	if i.Address, err = addressOf(p.v4, id, want.Address); err != nil {
		return i, err
	}
	if i.Address6, err = addressOf(p.v6, id, want.Address6); err != nil {
		return i, err
	}
	if !p.Internal {
		i.Gateway, i.Gateway6 = p.Gateway, p.Gateway6
	}
	if i.MAC == "" {
		i.MAC = macFor(i).String()
	}
	if err := n.connect(p, s, i); err != nil {
		return i, err
	}
	if err := s.addLinkLocal(i.Link, want.LinkLocal); err != nil {
		return i, err
	}
	return i, s.setSysctls(want.DriverOpts[moss.EndpointSysctls], i.Link)
}

func addressOf(pool *ipam, id moss.ContainerID, want netip.Addr) (netip.Prefix, error) {
	if want.IsValid() {
		return pool.claim(id, want)
	}
	if !pool.subnet.IsValid() {
		return netip.Prefix{}, nil
	}
	return pool.take(id)
}

// namesIn are a container's names in a network, the one for PTR first.
func (n *Networks) namesIn(c *moss.Container, i moss.Interface, want moss.Endpoint) []string {
	p := n.placeOf(i.Network)
	if p == nil || p.Builtin() {
		return nil
	}
	var out []string
	for _, name := range slices.Concat([]string{c.Name}, want.Aliases, []string{c.ID.Short(), c.Config.Hostname}) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
