package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.Networks = (*Networks)(nil)

// Networks are networks in memory.
type Networks struct {
	// OnAttach, OnDetach and OnPublish, when set, are asked first; their error is the method's.
	OnAttach  func(*moss.Container) error
	OnDetach  func(moss.ContainerID) error
	OnPublish func(moss.ContainerID, []moss.PortBinding) error

	host *hostNetwork
}

// hostNetwork outlives the engine.
type hostNetwork struct {
	mu       sync.Mutex
	attached map[moss.ContainerID]moss.Attachment
	open     map[netip.AddrPort]openPort
	busy     map[uint16]bool
	nextID   int
	nets     []moss.Network
	nextNet  int
}

type openPort struct {
	id    int
	owner moss.ContainerID
}

var (
	fakeSubnet  = netip.MustParsePrefix("172.30.0.0/24")
	fakeGateway = netip.MustParseAddr("172.30.0.1")
)

// NewNetworks returns a machine with nobody attached.
func NewNetworks() *Networks {
	return &Networks{host: &hostNetwork{
		attached: map[moss.ContainerID]moss.Attachment{}, open: map[netip.AddrPort]openPort{}, busy: map[uint16]bool{},
	}}
}

// Again is what a restarted engine has of the same machine.
func (n *Networks) Again() *Networks { return &Networks{host: n.host} }

// Occupy takes a port of the host for somebody else.
func (n *Networks) Occupy(port uint16) {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	n.host.busy[port] = true
}

// Left tells what there is of containers.
func (n *Networks) Left() []string {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	var left []string
	for _, a := range n.host.attached {
		if a.NetNS != "" {
			left = append(left, a.NetNS)
		}
		for _, i := range a.Interfaces() {
			if i.HostLink != "" {
				left = append(left, i.HostLink)
			}
		}
	}
	for at, p := range n.host.open {
		left = append(left, fmt.Sprintf("port %s of %s", at, p.owner))
	}
	return left
}

// Attach implements engine.Networks.
func (n *Networks) Attach(_ context.Context, c *moss.Container) (moss.Attachment, error) {
	if n.OnAttach != nil {
		if err := n.OnAttach(c); err != nil {
			return moss.Attachment{}, err
		}
	}
	mode := c.Host.NetworkMode
	if mode == "" {
		mode = moss.NetworkBridge
	}
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	a := moss.Attachment{Mode: mode}
	switch {
	case mode == moss.NetworkHost:
		a.Interface = moss.Interface{Network: fakeNetworkID(mode), Name: string(mode), Endpoint: moss.NewHexID()}
	case mode == moss.NetworkNone:
		a.Interface = moss.Interface{Network: fakeNetworkID(mode), Name: string(mode), Endpoint: moss.NewHexID()}
		a.NetNS, a.Sandbox = "/run/netns/"+string(c.ID), moss.NewHexID()
	case strings.HasPrefix(string(mode), "container:"):
		return moss.Attachment{}, moss.Errorf(moss.NotImplemented, "network mode %q is not supported", mode)
	default:
		a.NetNS, a.Sandbox = "/run/netns/"+string(c.ID), moss.NewHexID()
		a.DNS = []netip.Addr{netip.MustParseAddr("10.0.2.3")}
		delete(n.host.attached, c.ID)
		wanted := c.WantedEndpoints()
		var all []moss.Interface
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			i, err := n.host.joinLocked(c.ID, name, wanted[name], len(all))
			if err != nil {
				return moss.Attachment{}, err
			}
			all = append(all, i)
		}
		a = arranged(a, all)
	}
	n.host.attached[c.ID] = a
	return a, nil
}

// Rename gives the attachment the container's name.
func (n *Networks) Rename(c *moss.Container, a moss.Attachment) moss.Attachment {
	a.Names = []string{c.Name}
	return a
}

// Detach implements engine.Networks.
func (n *Networks) Detach(_ context.Context, id moss.ContainerID, _ moss.Attachment) error {
	if n.OnDetach != nil {
		if err := n.OnDetach(id); err != nil {
			return err
		}
	}
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	n.host.forgetLocked(id)
	return nil
}

func (h *hostNetwork) forgetLocked(id moss.ContainerID) {
	delete(h.attached, id)
	h.closeLocked(id)
}

func (h *hostNetwork) closeLocked(id moss.ContainerID) {
	for at, p := range h.open {
		if p.owner == id {
			delete(h.open, at)
		}
	}
}

// Publish implements engine.Networks.
func (n *Networks) Publish(_ context.Context, id moss.ContainerID, a moss.Attachment, ports []moss.PortBinding) ([]moss.PublishedPort, error) {
	if n.OnPublish != nil {
		if err := n.OnPublish(id, ports); err != nil {
			return nil, err
		}
	}
	if len(ports) == 0 {
		return nil, nil
	}
	if !a.Address.IsValid() && !a.Address6.IsValid() {
		return nil, moss.Errorf(moss.Invalid, "network %q has no ports to publish", a.Mode)
	}
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	ports = slices.Clone(ports)
	slices.SortStableFunc(ports, func(a, b moss.PortBinding) int { return a.Choices() - b.Choices() })
	var open []moss.PublishedPort
	for _, b := range ports {
		p, err := n.host.openLocked(id, b)
		if err != nil {
			for _, o := range open {
				delete(n.host.open, netip.AddrPortFrom(o.Binding.HostIP, o.Binding.HostPort))
			}
			return nil, err
		}
		open = append(open, p)
	}
	return open, nil
}

func (h *hostNetwork) openLocked(id moss.ContainerID, b moss.PortBinding) (moss.PublishedPort, error) {
	switch b.Port.Proto {
	case moss.TCP, moss.UDP:
	case moss.SCTP:
		return moss.PublishedPort{}, moss.Errorf(moss.NotImplemented, "sctp cannot be published")
	default:
		return moss.PublishedPort{}, moss.Errorf(moss.Invalid, "unknown protocol %q", b.Port.Proto)
	}
	if !b.HostIP.IsValid() {
		b.HostIP = netip.IPv4Unspecified()
	}
	last := b.HostPortEnd
	switch b.HostPortEnd = 0; {
	case last != 0 && (b.HostPort == 0 || last < b.HostPort):
		return moss.PublishedPort{}, moss.Errorf(moss.Invalid, "invalid range of ports %d-%d", b.HostPort, last)
	case last != 0:
		for ; h.takenLocked(b) && b.HostPort < last; b.HostPort++ {
		}
	case b.HostPort == 0:
		for b.HostPort = 32768; h.takenLocked(b); b.HostPort++ {
		}
	}
	if b.HostPort < 1024 {
		return moss.PublishedPort{}, moss.Errorf(moss.Forbidden, "permission denied: sysctl net.ipv4.ip_unprivileged_port_start=%d", b.HostPort)
	}
	if h.takenLocked(b) {
		return moss.PublishedPort{}, moss.Errorf(moss.Conflict, "failed to bind host port %d: address already in use", b.HostPort)
	}
	h.nextID++
	h.open[netip.AddrPortFrom(b.HostIP, b.HostPort)] = openPort{id: h.nextID, owner: id}
	return moss.PublishedPort{Binding: b, DriverID: h.nextID}, nil
}

func (h *hostNetwork) takenLocked(b moss.PortBinding) bool {
	_, taken := h.open[netip.AddrPortFrom(b.HostIP, b.HostPort)]
	return taken || h.busy[b.HostPort]
}

// Restore implements engine.Networks.
func (n *Networks) Restore(_ context.Context, running map[moss.ContainerID]moss.Attachment) error {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	for id := range n.host.attached {
		if _, ok := running[id]; !ok {
			n.host.forgetLocked(id)
		}
	}
	return nil
}

// List implements engine.Networks.
func (n *Networks) List(context.Context) ([]moss.Network, error) {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	return append([]moss.Network{
		fakeBridge(),
		{ID: fakeNetworkID("host"), Name: "host", Driver: "host"},
		{ID: fakeNetworkID("none"), Name: "none", Driver: "null"},
	}, n.host.nets...), nil
}

func fakeBridge() moss.Network {
	return moss.Network{ID: fakeNetworkID("bridge"), Name: "bridge", Driver: "bridge", Subnet: fakeSubnet, Gateway: fakeGateway, Link: "moss0"}
}

func fakeNetworkID(mode moss.NetworkMode) moss.NetworkID {
	sum := sha256.Sum256([]byte(mode))
	return moss.NetworkID(hex.EncodeToString(sum[:]))
}
