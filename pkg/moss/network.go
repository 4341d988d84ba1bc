package moss

import (
	"net/netip"
	"time"
)

// Network is a network that containers can be attached to.
type Network struct {
	ID       NetworkID
	Name     string
	Driver   string // "bridge", "host" or "null"
	Created  time.Time
	Subnet   netip.Prefix
	Gateway  netip.Addr
	Subnet6  netip.Prefix
	Gateway6 netip.Addr
	Link     string // the bridge's name
	MTU      int

	// Range and Range6 are the parts of the subnets that addresses are given
	// from; the zero Prefix is the whole.
	Range, Range6 netip.Prefix          `json:",omitzero"`
	Reserved      map[string]netip.Addr `json:",omitempty"` // addresses that no container gets
	NoIPv4        bool                  `json:",omitempty"`
	IPv6          bool                  `json:",omitempty"`
	Internal      bool                  `json:",omitempty"` // no way out
	Attachable    bool                  `json:",omitempty"`
	Isolated      bool                  `json:",omitempty"` // containers do not reach each other (docker's enable_icc=false)
	NoMasquerade  bool                  `json:",omitempty"`
	Options       map[string]string     `json:",omitempty"` // as the user gave them, for inspect
	Labels        map[string]string     `json:",omitempty"`
}

// Builtin says whether the network is one of those that are always there.
func (n Network) Builtin() bool {
	switch NetworkMode(n.Name) {
	case NetworkBridge, NetworkHost, NetworkNone:
		return true
	}
	return false
}

// Endpoint is what is asked for a container's place in a network.
type Endpoint struct {
	Aliases    []string          `json:",omitempty"`
	Address    netip.Addr        `json:",omitzero"` // the zero Addr asks for a free one
	Address6   netip.Addr        `json:",omitzero"`
	LinkLocal  []netip.Addr      `json:",omitempty"` // further addresses of its link (docker's link-local-ip)
	MAC        string            `json:",omitempty"` // "" asks for one that follows from the address
	DriverOpts map[string]string `json:",omitempty"`
	Links      []string          `json:",omitempty"` // as the user wrote them, see ParseLink
	GwPriority int               `json:",omitempty"` // the highest has the default route
}

// Interface is a container's link in one network.
type Interface struct {
	Network    NetworkID    `json:",omitzero"`
	Name       string       `json:",omitempty"` // of the network
	Link       string       `json:",omitempty"` // in the container: eth0, …; "" without a link
	Names      []string     `json:",omitempty"` // what others in the network call it; none on the default bridge
	Endpoint   string       `json:",omitzero"`  // id of the end point, for inspect; 64 hex digits
	HostLink   string       `json:",omitzero"`  // the veth's end at the bridge
	Address    netip.Prefix `json:",omitzero"`
	Gateway    netip.Addr   `json:",omitzero"`
	Address6   netip.Prefix `json:",omitzero"`
	Gateway6   netip.Addr   `json:",omitzero"`
	MAC        string       `json:",omitzero"`
	Internal   bool         `json:",omitempty"` // its network has no way out
	GwPriority int          `json:",omitempty"`

	// Links are names that this container alone knows, for names in the network.
	Links []Link `json:",omitempty"`
}

// ResolverAddr is where a container on a network of names asks for them.
var ResolverAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Attachment is a container's place in its networks, made at start and kept in
// the record so that a restarted engine finds the links again.
type Attachment struct {
	Mode      NetworkMode     `json:",omitzero"`
	NetNS     string          `json:",omitzero"` // path of the network namespace; "" means the host's
	Sandbox   string          `json:",omitzero"` // id of the namespace, for inspect
	Interface                 // the one with the default route and the published ports
	Others    []Interface     `json:",omitempty"` // those in further networks
	DNS       []netip.Addr    `json:",omitzero"`  // what resolv.conf gets when the user names none
	Search    []string        `json:",omitempty"` // the same of search domains, in place of the host's
	Options   []string        `json:",omitempty"` // the same of the resolver's options
	Upstreams []netip.Addr    `json:",omitempty"` // whom the resolver at ResolverAddr asks instead of the host's servers
	HostIP    netip.Addr      `json:",omitzero"`  // what "host-gateway" means; the zero Addr where the host cannot be reached
	HostIP2   netip.Addr      `json:",omitzero"`  // the same in the other family, where it has an address in both
	Published []PublishedPort `json:",omitzero"`
}

// Interfaces are all of them, the one with the default route first.
func (a Attachment) Interfaces() []Interface {
	if a.Network == "" {
		return a.Others
	}
	return append([]Interface{a.Interface}, a.Others...)
}

// WantedEndpoints are what is asked for in each network, by its name: at least that
// of the network mode, which is the only one that old records have.
func (c *Container) WantedEndpoints() map[string]Endpoint {
	if c.Endpoints != nil {
		return c.Endpoints
	}
	mode := c.Host.NetworkMode
	if mode == "" || mode == "default" {
		mode = NetworkBridge
	}
	return map[string]Endpoint{string(mode): {}}
}
