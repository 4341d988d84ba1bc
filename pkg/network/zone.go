package network

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// zone knows the names in all networks. Several containers may have one name.
type zone struct {
	mu   sync.RWMutex
	nets map[moss.NetworkID]*netZone
}

type netZone struct {
	suffix string // "." and the network's name
	hosts  map[string][]zoneHost
	names  map[netip.Addr]string // the other way, for PTR
}

type zoneHost struct {
	id     moss.ContainerID
	v4, v6 netip.Addr
}

// add enters the names of an interface, in place of those it had.
func (z *zone) add(id moss.ContainerID, i moss.Interface) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.removeLocked(id, i.Network)
	if len(i.Names) == 0 {
		return
	}
	if z.nets == nil {
		z.nets = map[moss.NetworkID]*netZone{}
	}
	n := z.nets[i.Network]
	if n == nil {
		n = &netZone{suffix: "." + strings.ToLower(i.Name), hosts: map[string][]zoneHost{}, names: map[netip.Addr]string{}}
		z.nets[i.Network] = n
	}
	host := zoneHost{id: id}
	for _, a := range []struct {
		of   netip.Prefix
		addr *netip.Addr
	}{{i.Address, &host.v4}, {i.Address6, &host.v6}} {
		if a.of.IsValid() {
			*a.addr = a.of.Addr()
			n.names[a.of.Addr()] = i.Names[0] + "." + i.Name
		}
	}
	for _, name := range i.Names {
		name = strings.ToLower(name)
		if !slices.Contains(n.hosts[name], host) {
			n.hosts[name] = append(n.hosts[name], host)
		}
	}
}

func (z *zone) remove(id moss.ContainerID, network moss.NetworkID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.removeLocked(id, network)
}

func (z *zone) removeLocked(id moss.ContainerID, network moss.NetworkID) {
	n := z.nets[network]
	if n == nil {
		return
	}
	for name, hosts := range n.hosts {
		// A new slice: lookups have let go of the lock with the old one.
		left := slices.DeleteFunc(slices.Clone(hosts), func(h zoneHost) bool {
			if h.id == id {
				delete(n.names, h.v4)
				delete(n.names, h.v6)
			}
			return h.id == id
		})
		if n.hosts[name] = left; len(left) == 0 {
			delete(n.hosts, name)
		}
	}
	if len(n.hosts) == 0 {
		delete(z.nets, network)
	}
}

// lookup finds who has a name in the first of the networks that knows it; "web"
// and "web.NETWORK" are the same.
func (z *zone) lookup(networks []moss.NetworkID, name string) []zoneHost {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	z.mu.RLock()
	defer z.mu.RUnlock()
	for _, id := range networks {
		n := z.nets[id]
		if n == nil {
			continue
		}
		if found := n.hosts[name]; len(found) > 0 {
			return found
		}
		if short, ok := strings.CutSuffix(name, n.suffix); ok && len(n.hosts[short]) > 0 {
			return n.hosts[short]
		}
	}
	return nil
}

// nameOf is the name of who has an address in one of the networks.
func (z *zone) nameOf(networks []moss.NetworkID, addr netip.Addr) string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	for _, id := range networks {
		if n := z.nets[id]; n != nil && n.names[addr] != "" {
			return n.names[addr]
		}
	}
	return ""
}
