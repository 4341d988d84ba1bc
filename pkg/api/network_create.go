package api

import (
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// Options of docker's bridge driver.
const (
	optBridgeName  = "com.docker.network.bridge.name"
	optMTU         = "com.docker.network.driver.mtu"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optDefault     = "com.docker.network.bridge.default_bridge"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
)

var validLink = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// networkRequest has what is in the wire type, and what it has no more.
type networkRequest struct {
	network.CreateRequest
	CheckDuplicate bool // names are unique anyway
}

func (s *Server) createNetwork(w *response, r *request) error {
	var in networkRequest
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	n, err := networkOf(&in.CreateRequest, s.o.NetworkOptions)
	if err != nil {
		return err
	}
	id, warning, err := s.o.Networks.Create(r.Context(), n)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, network.CreateResponse{ID: string(id), Warning: warning})
}

func networkOf(in *network.CreateRequest, defaults map[string]map[string]string) (moss.Network, error) {
	n := moss.Network{
		Name: in.Name, Driver: in.Driver, Internal: in.Internal, Attachable: in.Attachable,
		Labels: in.Labels, Options: in.Options,
		NoIPv4: in.EnableIPv4 != nil && !*in.EnableIPv4, IPv6: in.EnableIPv6 != nil && *in.EnableIPv6,
	}
	if n.Driver == "" || n.Driver == "default" {
		n.Driver = "bridge"
	}
	if more := defaults[n.Driver]; len(more) > 0 {
		n.Options = maps.Clone(more)
		maps.Copy(n.Options, in.Options)
	}
	if n.NoIPv4 && !n.IPv6 {
		return n, invalid("IPv4 or IPv6 must be enabled")
	}
	err := first(
		func() error {
			return refuseIf(in.Ingress || (in.Scope != "" && in.Scope != "local"), "networks of a swarm", "leave out --ingress and --scope")
		},
		func() error {
			return refuseIf(in.ConfigOnly || in.ConfigFrom != nil && in.ConfigFrom.Network != "", "networks that are configurations of others", "give each network its own")
		},
	)
	if err != nil || n.Driver != "bridge" {
		return n, err // the service says why there is no such driver
	}
	if in.IPAM != nil {
		if err := addIPAM(&n, in.IPAM); err != nil {
			return n, err
		}
	}
	return n, addOptions(&n)
}

func addIPAM(n *moss.Network, in *network.IPAM) error {
	if in.Driver != "" && in.Driver != "default" {
		return notYet("the address management driver "+in.Driver, "leave it out")
	}
	for _, k := range slices.Sorted(maps.Keys(in.Options)) {
		return notYet("the address management option "+k, "leave it out")
	}
	for _, c := range in.Config {
		subnet, within, gateway := &n.Subnet, &n.Range, &n.Gateway
		if c.Subnet.Addr().Is6() {
			subnet, within, gateway = &n.Subnet6, &n.Range6, &n.Gateway6
		}
		if !c.Subnet.IsValid() {
			if c.IPRange.IsValid() || c.Gateway.IsValid() || len(c.AuxAddress) > 0 {
				return invalid("invalid network config:\nan ip-range, gateway or aux-address needs a subnet")
			}
			continue
		}
		if subnet.IsValid() {
			return notYet("a second subnet of the same family", "give a network one of IPv4 and one of IPv6")
		}
		*subnet, *within, *gateway = c.Subnet, c.IPRange, c.Gateway
		for name, a := range c.AuxAddress {
			if n.Reserved == nil {
				n.Reserved = map[string]netip.Addr{}
			}
			n.Reserved[name] = a
		}
	}
	if n.NoIPv4 && n.Subnet.IsValid() {
		return invalid("invalid network config:\nan IPv4 subnet with IPv4 disabled")
	}
	return nil
}

// addOptions reads the options of the bridge driver; what has no effect is refused.
func addOptions(n *moss.Network) error {
	for _, k := range slices.Sorted(maps.Keys(n.Options)) {
		v := n.Options[k]
		flag := func(to *bool, not bool) error {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return invalid("invalid value for option %s: %q is not true or false", k, v)
			}
			*to = b != not
			return nil
		}
		var err error
		switch k {
		case optBridgeName:
			if len(v) == 0 || len(v) > 15 || !validLink.MatchString(v) {
				err = invalid("invalid value for option %s: %q is no name of a link", k, v)
			}
			n.Link = v
		case optMTU:
			if n.MTU, err = strconv.Atoi(v); err != nil || n.MTU < 68 || n.MTU > 65535 {
				err = invalid("invalid value for option %s: %q is no MTU", k, v)
			}
		case optICC:
			err = flag(&n.Isolated, true)
		case optMasquerade:
			err = flag(&n.NoMasquerade, true)
		case optDefault:
			var is bool
			if err = flag(&is, false); err == nil && is {
				err = moss.Errorf(moss.Forbidden, "cannot create another default bridge: there is one")
			}
		case optHostBinding:
			if v != "0.0.0.0" && v != "" {
				err = notYet("the network option "+k, "name the address with each port, -p "+v+":8080:80")
			}
		default:
			err = notYet("the network option "+k, "leave it out")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) removeNetwork(w *response, r *request) error {
	if err := s.o.Networks.Remove(r.Context(), r.name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) pruneNetworks(w *response, r *request) error {
	f, err := s.pruneFilter(r)
	if err != nil {
		return err
	}
	gone, err := s.o.Networks.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, network.PruneReport{NetworksDeleted: gone})
}

func (s *Server) connectNetwork(w *response, r *request) error {
	var in network.ConnectRequest
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	end, err := endpointOf(in.EndpointConfig)
	if err != nil {
		return err
	}
	if err := s.o.Networks.Connect(r.Context(), r.name, in.Container, end); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) disconnectNetwork(w *response, r *request) error {
	var in network.DisconnectRequest
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	if err := s.o.Networks.Disconnect(r.Context(), r.name, in.Container, in.Force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
