package network

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/lately"
	"github.com/moss-containers/moss/pkg/moss"
)

// Bridge is the name of the bridge's link.
const Bridge = "moss0"

// Config says where everything is and what the holder offers.
type Config struct {
	// NetNS is the holder's detached network namespace, a bind mount.
	NetNS string
	// Dir is where the containers' namespaces are bound, R/netns.
	Dir string
	// Subnet of the bridge. The zero Prefix chooses one that no route of the
	// host overlaps. While containers are attached, the bridge keeps the one it has.
	Subnet netip.Prefix
	// IPv6 gives the bridge an IPv6 network: Subnet6, or where that is the zero Prefix one that is the engine's own.
	IPv6            bool
	Subnet6, Range6 netip.Prefix
	Range           netip.Prefix // fixed-cidr: the part of Subnet that addresses are given from; the zero Prefix is the whole
	// NoBridge leaves the default bridge out: there is no network called bridge.
	NoBridge  bool
	Isolated  bool              // containers on the default bridge do not reach each other
	Plain     bool              // without masquerading on the default bridge
	NoFilter  bool              // without a packet filter; the gates stay
	PublishIP netip.Addr        // where ports are published that name no address; the zero Addr is everywhere
	MTU       int               // bytes; of the holder's network driver, 0 leaves the kernel's
	DNS       []netip.Addr      // name servers that containers on the bridge can reach
	Search    []string          // search domains of containers that name none; none for the host's
	Options   []string          // the same of their resolvers' options
	Host      func() netip.Addr // where containers that start now reach the host; nil, or the zero Addr, where they cannot
	Host2     netip.Addr        // the same in the other family; the zero Addr for none
	Ports     PortDriver
	// Own are TCP addresses that the engine itself listens at, or wants to: their ports are nobody else's.
	Own []netip.AddrPort
	// Sockets keeps those of the resolvers while the daemon is away; nil for none.
	Sockets Sockets
	// Upstreams are the name servers that resolvers, and containers in the host's network, ask; none for
	// those of the host's resolv.conf.
	Upstreams []netip.Addr
	// ResolvConf is the host's resolv.conf(5).
	ResolvConf string
	// Pools are what subnets of networks that name none are cut from; nil means moss's own.
	Pools []Pool
	// Kept are the networks that Adopt is going to be told of: the default bridge takes no subnet of theirs.
	Kept []moss.Network
	// WayOut is the holder's for TCP, past its driver; the zero WayOut for none.
	WayOut WayOut
	// Ways are what the holder's driver may come to lead to; what it leads to now is known anyway.
	Ways []netip.Prefix
}

// Networks attaches containers to networks. Its methods may be called from
// several goroutines, but not twice at once for one container.
type Networks struct {
	cfg     Config
	handle  *netlink.Handle // in the holder's namespace
	slow    *netlink.Handle // the same, for what takes the kernel long
	netns   *os.File        // the holder's
	bridge  int             // link index of the default bridge
	started time.Time

	dismissed sync.WaitGroup // links whose end the kernel is busy with

	making     sync.Mutex     // one network is made or removed at a time
	filterName string         // of the packet filter's table in force
	ways       []netip.Prefix // where the holder's driver leads to
	notes      []string

	mu     sync.Mutex
	names  map[moss.ContainerID]string // for messages
	ports  map[moss.ContainerID]bool   // who may have open ports
	gates  map[moss.ContainerID][]gate
	places map[moss.NetworkID]*place
	named  map[string]*place // the same, by name
	broken error             // why the filter in force does not keep the networks apart

	zone      zone
	upstreams upstreams
	resolvers map[moss.ContainerID]*resolver
	naming    sync.Mutex // one stand-in is made or ended at a time
	stand     *resolver  // in the place of the driver's name server; nil for none
	looked    bool       // for what an earlier daemon left of it
	unwatch   func() error
	asked     lately.Moment // when a container last asked for a name
}

// New sets the bridge and the packet filter up, or takes over what an earlier
// engine left. The caller must be in the holder's user and mount namespaces.
func New(cfg Config) (*Networks, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the network namespaces: %w", err)
	}
	n := &Networks{cfg: cfg, started: time.Now(), names: map[moss.ContainerID]string{}, ports: map[moss.ContainerID]bool{}, gates: map[moss.ContainerID][]gate{}, places: map[moss.NetworkID]*place{}, named: map[string]*place{}, resolvers: map[moss.ContainerID]*resolver{}}
	n.upstreams.path = cmp.Or(cfg.ResolvConf, "/etc/resolv.conf")
	for _, s := range cfg.Upstreams {
		n.upstreams.fixed = append(n.upstreams.fixed, netip.AddrPortFrom(s, dnsPort))
	}
	var err error
	if n.netns, err = os.Open(cfg.NetNS); err != nil {
		return nil, fmt.Errorf("cannot open the holder's network namespace: %w", err)
	}
	host, err := hostRoutes()
	if err == nil {
		err = inNetNS(cfg.NetNS, func() error { return n.setup(host) })
	}
	if err == nil {
		err = n.heedUpstreams()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Asked tells when a container last asked for a name; zero for never.
func (n *Networks) Asked() time.Time { return n.asked.Time() }

// Notes are for the user: what is not as the settings have it.
func (n *Networks) Notes() []string { return n.notes }

// Close lets go of the holder's namespace; everything in it stays.
func (n *Networks) Close() error {
	n.dismissed.Wait()
	var unwatched error
	if n.unwatch != nil {
		unwatched = n.unwatch()
	}
	for _, h := range []*netlink.Handle{n.handle, n.slow} {
		if h != nil {
			h.Close()
		}
	}
	return errors.Join(unwatched, n.closeResolvers(), n.netns.Close())
}

// setup runs on a thread in the holder's namespace.
func (n *Networks) setup(host []netip.Prefix) error {
	var err error
	if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	if n.slow, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	if n.ways, err = n.driversRoutes(); err != nil {
		return err
	}
	n.ways = append(n.ways, n.cfg.Ways...)
	bridge, err := n.defaultBridge(host)
	if err != nil {
		return err
	}
	if err := setSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := quietBridges(); err != nil {
		return err
	}
	// The filter of an earlier engine stays until the records tell of all networks, see Adopt: with
	// this one's alone, containers of the others would be cut off for a while.
	err = transactions(func(conn *nftables.Conn) (err error) {
		n.filterName, err = liveFilter(conn)
		return err
	})
	if err == nil && n.filterName == "" {
		n.filterName, err = setFilter(n.rules(bridge...))
	}
	if err != nil {
		return err
	}
	if there, err := hasTable(gateTable); err != nil || there {
		return err // that of running containers, until Restore tells of them
	}
	return setGates(nil)
}

// defaultBridge makes the network called bridge, and returns it; none where it
// is left out and nobody is on it any more.
func (n *Networks) defaultBridge(host []netip.Prefix) ([]moss.Network, error) {
	if n.cfg.NoBridge {
		link, _, err := n.findBridge()
		if err != nil || link == nil {
			return nil, err
		}
		if used, err := n.bridgeUsed(link.Attrs().Index); err != nil || !used {
			return nil, errors.Join(err, n.removeLink(Bridge))
		}
	}
	subnet, err := n.ensureBridge(host)
	if err != nil {
		return nil, err
	}
	subnet6, err := n.ensureBridge6()
	if err != nil {
		return nil, err
	}
	net := moss.Network{
		ID: networkID(moss.NetworkBridge), Name: string(moss.NetworkBridge), Driver: "bridge", Created: n.started,
		Subnet: subnet, Gateway: subnet.Addr().Next(), Range: part(n.cfg.Range, subnet), Link: Bridge, MTU: n.cfg.MTU,
		Isolated: n.cfg.Isolated, NoMasquerade: n.cfg.Plain,
	}
	if subnet6.IsValid() {
		net.IPv6, net.Subnet6, net.Gateway6, net.Range6 = true, subnet6, subnet6.Addr().Next(), part(n.cfg.Range6, subnet6)
	}
	p := newPlace(net)
	p.index = n.bridge
	n.noteLocked(p) // nobody else is here yet
	return []moss.Network{p.Network}, nil
}

// networkID is a built-in network's id, the same on every engine.
func networkID(name moss.NetworkMode) moss.NetworkID {
	sum := sha256.Sum256([]byte("moss network " + name))
	return moss.NetworkID(hex.EncodeToString(sum[:]))
}

func (n *Networks) path(id moss.ContainerID) string { return filepath.Join(n.cfg.Dir, string(id)) }

// hostLink names the end of a container's link that is at the bridge.
func hostLink(id moss.ContainerID) string { return linkPrefix + id.Short() }

const linkPrefix = "ve"

// numberedLink names the host's end of ethN.
func numberedLink(id moss.ContainerID, number int) string {
	if number == 0 {
		return hostLink(id)
	}
	return hostLink(id) + linkDigits[number:number+1]
}

func (n *Networks) setName(id moss.ContainerID, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name == "" {
		delete(n.names, id)
		return
	}
	n.names[id] = name
}

// name is the container's name when it was attached, else its short id.
func (n *Networks) name(id moss.ContainerID) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nameLocked(id)
}

func (n *Networks) nameLocked(id moss.ContainerID) string {
	if name := n.names[id]; name != "" {
		return name
	}
	return id.Short()
}

func (n *Networks) setPorts(id moss.ContainerID, has bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if has {
		n.ports[id] = true
		return
	}
	delete(n.ports, id)
}

func (n *Networks) hasPorts(id moss.ContainerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[id]
}
