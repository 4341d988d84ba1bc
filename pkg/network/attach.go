package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// linkDigits tell the links of one container apart, at the end of hostLink.
const linkDigits = "0123456789abcdefghijklmnopqrstuvwxyz"

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
	for name, value := range c.Host.Sysctls {
		if name = strings.ReplaceAll(name, "/", "."); strings.HasPrefix(name, "net.") {
			all[name] = value
		}
	}
	return inNetNS(netns, func() error {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := setSysctl(strings.ReplaceAll(name, ".", "/"), all[name]); err != nil {
				return err
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

// setSysctls sets the kernel parameters that an end point asks for.
func (s *space) setSysctls(value, link string) error {
	if value == "" {
		return nil
	}
	all, err := moss.ParseSysctls(value, link)
	if err != nil {
		return err
	}
	return inNetNS(s.path, func() error {
		for _, p := range all {
			if err := os.WriteFile(filepath.Join("/proc/sys", p.Path), []byte(p.Value), 0); err != nil {
				return moss.Errorf(moss.Invalid, "cannot set %s=%s: %w", strings.ReplaceAll(p.Path, "/", "."), p.Value, err)
			}
		}
		return nil
	})
}

func macFor(i moss.Interface) net.HardwareAddr {
	if i.Address.IsValid() {
		return macOf(i.Address.Addr())
	}
	b := i.Address6.Addr().As16()
	return net.HardwareAddr{0x02, 0x42, b[12], b[13], b[14], b[15]}
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

// freeLink is the number of a container's next link, at the bridge's side, and
// its name in the container: what is asked for, or the first ethN.
func freeLink(id moss.ContainerID, asked string, have []moss.Interface) (number int, name string, err error) {
	has := func(name string) bool {
		return slices.ContainsFunc(have, func(i moss.Interface) bool { return i.Link == name || i.HostLink == name })
	}
	if asked != "" && has(asked) {
		return 0, "", moss.Errorf(moss.Conflict, "cannot name the link %q (%s): the container has one of that name", asked, moss.EndpointIfname)
	}
	for name = asked; name == ""; number++ {
		if eth := fmt.Sprintf("eth%d", number); !has(eth) {
			name = eth
		}
	}
	for number := range len(linkDigits) {
		if !has(numberedLink(id, number)) {
			return number, name, nil
		}
	}
	return 0, "", moss.Errorf(moss.Forbidden, "a container has at most %d networks", len(linkDigits))
}

// connect joins the container's namespace to a bridge.
func (n *Networks) connect(p *place, s *space, i moss.Interface) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return moss.Errorf(moss.Invalid, "invalid MAC address: %s", i.MAC)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = i.HostLink, p.MTU, p.index, net.FlagUp
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr = i.Link, mac
	pair.PeerNamespace = netlink.NsFd(int(s.file.Fd()))
	err = n.handle.LinkAdd(pair)
	if errors.Is(err, os.ErrExist) {
		// The kernel is still busy with an earlier run's, or an engine was killed.
		if err = n.removeLink(attrs.Name); err == nil {
			err = n.handle.LinkAdd(pair)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the link %s: %w", attrs.Name, err)
	}
	if p.Isolated {
		// Frames between ports of one bridge pass no packet filter.
		link, err := n.handle.LinkByName(attrs.Name)
		if err == nil {
			err = n.handle.LinkSetIsolated(link, true)
		}
		if err != nil {
			return fmt.Errorf("cannot isolate the link %s: %w", attrs.Name, err)
		}
	}
	guest, err := s.handle.LinkByName(i.Link)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container's namespace: %w", i.Link, err)
	}
	if i.Address6.IsValid() {
		if err := inNetNS(s.path, func() error { return setSysctl("net/ipv6/conf/"+i.Link+"/disable_ipv6", "0") }); err != nil {
			return err
		}
	}
	for _, a := range []netip.Prefix{i.Address, i.Address6} {
		if !a.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else is given it
		}
		if err := s.handle.AddrAdd(guest, addr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", i.Link, a, err)
		}
	}
	if err := s.handle.LinkSetUp(guest); err != nil {
		return fmt.Errorf("cannot bring %s up: %w", i.Link, err)
	}
	return nil
}

// addLinkLocal gives a link further addresses, with docker's lengths.
func (s *space) addLinkLocal(link string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	guest, err := s.handle.LinkByName(link)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container's namespace: %w", link, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 16)), Scope: unix.RT_SCOPE_LINK}
		if a.Is6() {
			addr = &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 64)), Flags: unix.IFA_F_NODAD}
			if err := inNetNS(s.path, func() error { return setSysctl("net/ipv6/conf/"+link+"/disable_ipv6", "0") }); err != nil {
				return err
			}
		}
		if err := s.handle.AddrReplace(guest, addr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", link, a, err)
		}
	}
	return nil
}

// setRoute makes an interface's gateways those of the default routes, in place
// of what there is; one without a gateway takes them away.
func (s *space) setRoute(i moss.Interface) error {
	var index int
	if i.Link != "" {
		guest, err := s.handle.LinkByName(i.Link)
		if err != nil {
			return fmt.Errorf("cannot find %s in the container's namespace: %w", i.Link, err)
		}
		index = guest.Attrs().Index
	}
	for _, f := range []struct {
		family  int
		gateway netip.Addr
		all     *net.IPNet
	}{
		{netlink.FAMILY_V4, i.Gateway, ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))},
		{netlink.FAMILY_V6, i.Gateway6, ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))},
	} {
		if f.gateway.IsValid() {
			if err := s.handle.RouteReplace(&netlink.Route{LinkIndex: index, Dst: f.all, Gw: f.gateway.AsSlice()}); err != nil {
				return fmt.Errorf("cannot set the default route: %w", err)
			}
			if f.family == netlink.FAMILY_V4 {
				continue // replaced
			}
		}
		routes, err := s.handle.RouteList(nil, f.family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("cannot read the container's routes: %w", err)
		}
		for _, r := range routes {
			isDefault := r.Dst == nil || (r.Dst.IP.IsUnspecified() && ones(r.Dst) == 0)
			if isDefault && r.Gw != nil && (!f.gateway.IsValid() || r.LinkIndex != index) {
				if err := s.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("cannot take a default route away: %w", err)
				}
			}
		}
	}
	return nil
}

func ones(n *net.IPNet) int { bits, _ := n.Mask.Size(); return bits }

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
