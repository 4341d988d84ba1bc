package api

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

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
	out := []network.Summary{}
	for _, n := range list {
		kind := "custom"
		if builtin(n) {
			kind = "builtin"
		}
		// Built-in networks count as used: there is nothing to clean up.
		fits := f.exact("driver", n.Driver) && f.prefix("id", string(n.ID)) && f.contains("name", n.Name) &&
			f.exact("scope", "local") && f.exact("type", kind) && f.pairs("label", nil) && (!asked || dangling != (kind == "builtin"))
		if fits {
			out = append(out, network.Summary{Network: encodeNetwork(n)})
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// contains says whether one of the key's values is part of v, or the key is not there.
func (f filters) contains(key, v string) bool {
	for _, part := range f[key] {
		if strings.Contains(v, part) {
			return true
		}
	}
	return !f.has(key)
}

func builtin(n moss.Network) bool {
	switch moss.NetworkMode(n.Name) {
	case moss.NetworkBridge, moss.NetworkHost, moss.NetworkNone:
		return true
	}
	return false
}

func (s *Server) inspectNetwork(w *response, r *request) error {
	list, err := s.o.Networks.List(r.Context())
	if err != nil {
		return err
	}
	n, err := findNetwork(list, r.name)
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
	for i := range running {
		c := &running[i]
		if c.Network == nil || c.Network.Network != n.ID {
			continue
		}
		e := network.EndpointResource{Name: c.Name, EndpointID: c.Network.Endpoint, IPv4Address: c.Network.Address, IPv6Address: c.Network.Address6}
		if mac, err := net.ParseMAC(c.Network.MAC); err == nil {
			e.MacAddress = network.HardwareAddr(mac)
		}
		out.Containers[string(c.ID)] = e
	}
	return writeJSON(w, http.StatusOK, out)
}

// findNetwork finds by id, name or unique id prefix.
func findNetwork(list []moss.Network, ref string) (moss.Network, error) {
	var found []moss.Network
	for _, n := range list {
		if string(n.ID) == ref || n.Name == ref {
			return n, nil
		}
		if strings.HasPrefix(string(n.ID), ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return moss.Network{}, moss.Errorf(moss.NotFound, "network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return moss.Network{}, moss.Errorf(moss.Invalid, "network %s is ambiguous (%d matches found on ID prefix)", ref, len(found))
}

func encodeNetwork(n moss.Network) network.Network {
	out := network.Network{
		Name: n.Name, ID: string(n.ID), Created: n.Created, Scope: "local", Driver: n.Driver,
		EnableIPv4: n.Subnet.IsValid() || n.Driver != "bridge", EnableIPv6: n.Subnet6.IsValid(),
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	add := func(subnet netip.Prefix, gateway netip.Addr) {
		if subnet.IsValid() {
			out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: subnet, Gateway: gateway})
		}
	}
	add(n.Subnet, n.Gateway)
	add(n.Subnet6, n.Gateway6)
	if n.Link != "" {
		out.Options["com.docker.network.bridge.name"] = n.Link
	}
	if n.MTU != 0 {
		out.Options["com.docker.network.driver.mtu"] = strconv.Itoa(n.MTU)
	}
	return out
}

// listPlugins answers that there are none, which is so.
func (s *Server) listPlugins(w *response, _ *request) error {
	return writeJSON(w, http.StatusOK, []any{})
}

// noPlugin lets docker inspect look further for what a name may mean.
func (s *Server) noPlugin(_ *response, r *request) error {
	return moss.Errorf(moss.NotFound, "plugin %q not found", r.name)
}
