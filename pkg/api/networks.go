package api

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) listNetworks(w *response, r *request) error {
	f, err := parseFilters(r.str("filters"), "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, asked, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	for _, t := range f["type"] {
		if t != "custom" && t != "builtin" {
			return moss.Errorf(moss.Invalid, "invalid filter: 'type'='%s'", t)
		}
	}
	list, err := s.o.Networks.List(r.Context())
	if err != nil {
		return err
	}
	used := map[moss.NetworkID]bool{}
	if asked {
		running, err := s.o.Views.List(moss.ContainerFilter{})
		if err != nil {
			return err
		}
		for i := range running {
			if a := running[i].Network; a != nil {
				for _, i := range a.Interfaces() {
					used[i.Network] = true
				}
			}
		}
	}
	out := []network.Summary{}
	for _, n := range list {
		kind := "custom"
		if n.Builtin() {
			kind = "builtin"
		}
		// Built-in networks count as used: there is nothing to clean up.
		fits := f.exact("driver", n.Driver) && f.matches("id", string(n.ID)) && f.matches("name", n.Name) &&
			f.exact("scope", "local") && f.exact("type", kind) && f.pairs("label", n.Labels) && (!asked || dangling == (kind == "custom" && !used[n.ID]))
		if fits {
			out = append(out, network.Summary{Network: encodeNetwork(n)})
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) inspectNetwork(w *response, r *request) error {
	n, err := s.o.Networks.Get(r.Context(), r.name)
	if err != nil {
		return err
	}
	if scope := r.str("scope"); scope != "" && scope != "local" {
		return moss.Errorf(moss.NotFound, "network %s not found", r.name)
	}
	running, err := s.o.Views.List(moss.ContainerFilter{})
	if err != nil {
		return err
	}
	out := network.Inspect{Network: encodeNetwork(n), Containers: map[string]network.EndpointResource{}}
	var taken []netip.Addr
	for i := range running {
		c := running[i]
		if c.Network == nil {
			continue
		}
		for _, i := range c.Network.Interfaces() {
			if i.Network != n.ID {
				continue
			}
			e := network.EndpointResource{Name: c.Name, EndpointID: i.Endpoint, IPv4Address: i.Address, IPv6Address: i.Address6}
			if mac, err := net.ParseMAC(i.MAC); err == nil {
				e.MacAddress = network.HardwareAddr(mac)
			}
			out.Containers[string(c.ID)] = e
			taken = append(taken, i.Address.Addr(), i.Address6.Addr())
		}
	}
	if !r.version.before(v1(52)) {
		out.Status = subnetsStatus(n, taken)
	}
	return writeJSON(w, http.StatusOK, out)
}

func encodeNetwork(n moss.Network) network.Network {
	out := network.Network{
		Name: n.Name, ID: string(n.ID), Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: n.Subnet.IsValid() || n.Driver != "bridge", EnableIPv6: n.Subnet6.IsValid(),
		IPAM:     network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Internal: n.Internal, Attachable: n.Attachable,
		Options: map[string]string{}, Labels: map[string]string{},
	}
	add := func(subnet, within netip.Prefix, gateway netip.Addr) {
		if !subnet.IsValid() {
			return
		}
		c := network.IPAMConfig{Subnet: subnet, IPRange: within, Gateway: gateway}
		for name, a := range n.Reserved {
			if subnet.Contains(a) {
				if c.AuxAddress == nil {
					c.AuxAddress = map[string]netip.Addr{}
				}
				c.AuxAddress[name] = a
			}
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	add(n.Subnet, n.Range, n.Gateway)
	add(n.Subnet6, n.Range6, n.Gateway6)
	maps.Copy(out.Labels, n.Labels)
	if !n.Builtin() {
		maps.Copy(out.Options, n.Options)
		return out
	}
	if n.Link != "" {
		out.Options[optBridgeName], out.Options[optDefault] = n.Link, "true"
		out.Options[optICC], out.Options[optMasquerade] = strconv.FormatBool(!n.Isolated), strconv.FormatBool(!n.NoMasquerade)
	}
	if n.MTU != 0 {
		out.Options[optMTU] = strconv.Itoa(n.MTU)
	}
	return out
}

// listPlugins answers that there are none: those with a socket of their own are
// not listed by docker either, but by info.
func (s *Server) listPlugins(w *response, _ *request) error {
	return writeJSON(w, http.StatusOK, []any{})
}

// noPlugin lets docker inspect look further for what a name may mean.
func (s *Server) noPlugin(_ *response, r *request) error {
	return moss.Errorf(moss.NotFound, "plugin %q not found", r.name)
}
