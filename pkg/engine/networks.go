package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Networking makes and tells of networks.
type Networking struct{ *Engine }

// Networking returns the service that makes and tells of networks.
func (e *Engine) Networking() Networking { return Networking{e} }

// List returns the networks there are.
func (s Networking) List(ctx context.Context) ([]moss.Network, error) {
	return s.Networks.List(ctx)
}

// Get finds a network by id, name or unique id prefix.
func (s Networking) Get(ctx context.Context, ref string) (moss.Network, error) {
	return s.network(ctx, ref)
}

func (e *Engine) network(ctx context.Context, ref string) (moss.Network, error) {
	list, err := e.Networks.List(ctx)
	if err != nil {
		return moss.Network{}, err
	}
	var found []moss.Network
	for _, n := range list {
		if string(n.ID) == ref || n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(string(n.ID), ref) {
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

// Create makes a network. Errors: Conflict for a name in use, Forbidden for a
// built-in name or a subnet in use, Invalid, NotImplemented for a driver. The
// warning is of what containers do not reach because of it.
func (s Networking) Create(ctx context.Context, n moss.Network) (id moss.NetworkID, warning string, err error) {
	ctx = context.WithoutCancel(ctx) // once begun it is finished
	if strings.TrimSpace(n.Name) == "" || strings.ContainsAny(n.Name, "/ \t\n") {
		return "", "", moss.Errorf(moss.Invalid, "invalid network name: %q", n.Name)
	}
	if n.Builtin() || n.Name == "default" || strings.HasPrefix(n.Name, "container:") {
		return "", "", moss.Errorf(moss.Forbidden, "operation is not permitted on predefined %s network ", n.Name)
	}
	n.ID, n.Created = moss.NetworkID(moss.NewHexID()), time.Now()
	made, err := s.NetworkMaker.Create(ctx, n)
	if err != nil {
		return "", "", err
	}
	if err := s.NetworkRecords.PutNetwork(made); err != nil {
		if undo := s.NetworkMaker.Remove(ctx, made.ID); undo != nil {
			s.Log.Error("a network that could not be recorded is left", "network", made.Name, "error", undo)
		}
		return "", "", err
	}
	s.networkEvent(made, "create", nil)
	if o, ok := s.NetworkMaker.(Overlaps); ok {
		if hidden := o.Hides(made); hidden.IsValid() {
			warning = fmt.Sprintf("network %s has addresses of %s, which the host has a route to: containers do not reach them there any more", made.Name, hidden)
		}
	}
	return made.ID, warning, nil
}

// Remove takes a network away. Errors: NotFound, Forbidden while containers are
// attached, and for the built-in ones.
func (s Networking) Remove(ctx context.Context, ref string) error {
	n, err := s.network(ctx, ref)
	if err != nil {
		return err
	}
	if n.Builtin() {
		return moss.Errorf(moss.Forbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	return s.removeNetwork(context.WithoutCancel(ctx), n)
}

func (s Networking) removeNetwork(ctx context.Context, n moss.Network) error {
	if err := s.NetworkMaker.Remove(ctx, n.ID); err != nil {
		return err
	}
	if err := s.NetworkRecords.DeleteNetwork(n.ID); err != nil {
		return err
	}
	s.networkEvent(n, "destroy", nil)
	return nil
}

// Prune removes the networks that no container is attached to and that the
// filter chooses; it returns their names.
func (s Networking) Prune(ctx context.Context, f moss.PruneFilter) ([]string, error) {
	list, err := s.Networks.List(ctx)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, n := range list {
		if ctx.Err() != nil {
			break
		}
		if n.Builtin() || !prunesNetwork(f, n) {
			continue
		}
		switch err := s.removeNetwork(context.WithoutCancel(ctx), n); moss.ClassOf(err) {
		case moss.Forbidden, moss.NotFound: // in use, or gone meanwhile
		default:
			if err != nil {
				s.Log.Warn("a network could not be pruned", "network", n.Name, "error", err)
				continue
			}
			gone = append(gone, n.Name)
		}
	}
	s.Engine.Events.Publish(moss.Event{Type: moss.NetworkEvent, Action: "prune", Time: time.Now(), Attributes: map[string]string{"reclaimed": "0"}})
	return gone, ctx.Err()
}

func prunesNetwork(f moss.PruneFilter, n moss.Network) bool {
	switch {
	case !f.Until.IsZero() && n.Created.After(f.Until):
	case !hasLabels(n.Labels, f.Labels):
	case slices.ContainsFunc(f.NotLabel, func(l string) bool { return hasLabels(n.Labels, []string{l}) }):
	default:
		return true
	}
	return false
}

// Connect gives a container a place in a further network, at once where it runs.
func (s Networking) Connect(ctx context.Context, network, ref string, end moss.Endpoint) error {
	n, err := s.network(ctx, network)
	if err != nil {
		return err
	}
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	ctx = context.WithoutCancel(ctx)
	rec := c.record()
	if err := checkEndpoint(n.Name, end); err != nil {
		return err
	}
	switch {
	case n.Name == string(moss.NetworkHost) && !ownNetwork(rec.Host.NetworkMode):
		return moss.Errorf(moss.Invalid, "container cannot be disconnected from host network or connected to host network")
	case ownNetwork(rec.Host.NetworkMode):
		return moss.Errorf(moss.Invalid, "container sharing network namespace with another container or host cannot be connected to any other network")
	case rec.Host.NetworkMode == moss.NetworkNone || n.Name == string(moss.NetworkNone):
		return moss.Errorf(moss.Invalid, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	wanted := maps.Clone(rec.WantedEndpoints())
	if _, there := wanted[n.Name]; there && (rec.State.Alive() || rec.Endpoints != nil) {
		return moss.Errorf(moss.Forbidden, "endpoint with name %s already exists in network %s", rec.Name, n.Name)
	}
	wanted[n.Name] = end
	if !rec.State.Alive() || rec.Network == nil {
		return s.rewrite(c, func(r *moss.Container) { r.Endpoints = wanted })
	}
	next, err := s.NetworkMaker.Connect(ctx, rec, *rec.Network, string(n.ID), end)
	if err != nil {
		return err
	}
	err = s.publishLate(ctx, rec, &next)
	if err == nil {
		err = s.rewrite(c, func(r *moss.Container) { r.Endpoints, r.Network = wanted, &next })
	}
	if err != nil {
		if _, undo := s.NetworkMaker.Disconnect(ctx, rec.ID, next, n.ID); undo != nil {
			s.Log.Error("a container stays connected to a network", "container", rec.Name, "network", n.Name, "error", undo)
		}
		return err
	}
	s.refreshFiles(ctx, rec, next)
	s.followLinks(ctx, c)
	s.networkEvent(n, "connect", rec)
	if len(rec.Network.Published) == 0 {
		s.portEvents(rec, next.Published, "publish", time.Now())
	}
	return nil
}

// publishLate opens the ports of a running container that had no way in so far.
func (e *Engine) publishLate(ctx context.Context, rec *moss.Container, net *moss.Attachment) error {
	if len(net.Published) > 0 {
		return nil
	}
	var err error
	net.Published, err = e.openPorts(ctx, rec, *net)
	return err
}

// refreshFiles tells a running container's files of its new addresses. It is
// connected either way.
func (s Networking) refreshFiles(ctx context.Context, rec *moss.Container, next moss.Attachment) {
	r, ok := s.Runtime.(FileRefresher)
	if !ok {
		return
	}
	old := bundle(rec, moss.Mount{}, nil, *rec.Network)
	s.hosts.Lock()
	defer s.hosts.Unlock()
	if err := r.Refresh(ctx, old, bundle(rec, moss.Mount{}, nil, next)); err != nil {
		s.Log.Warn("a container's hosts and resolv.conf do not have its new networks", "container", rec.Name, "error", err)
	}
}

// Disconnect takes a container out of a network, at once where it runs. With
// force the network may be gone.
func (s Networking) Disconnect(ctx context.Context, network, ref string, force bool) error {
	n, err := s.network(ctx, network)
	if err != nil {
		if !force || moss.ClassOf(err) != moss.NotFound {
			return err
		}
		n = moss.Network{Name: network}
	}
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	ctx = context.WithoutCancel(ctx)
	rec := c.record()
	if ownNetwork(rec.Host.NetworkMode) || n.Name == string(moss.NetworkHost) {
		return moss.Errorf(moss.Invalid, "container cannot be disconnected from host network or connected to host network")
	}
	wanted := maps.Clone(rec.WantedEndpoints())
	if _, there := wanted[n.Name]; !there {
		return moss.Errorf(moss.Forbidden, "container %s is not connected to network %s", rec.ID, n.Name)
	}
	delete(wanted, n.Name)
	if !rec.State.Alive() || rec.Network == nil || rec.Host.NetworkMode == moss.NetworkNone {
		return s.rewrite(c, func(r *moss.Container) { r.Endpoints = wanted })
	}
	next, err := s.NetworkMaker.Disconnect(ctx, rec.ID, *rec.Network, n.ID)
	if err != nil {
		return err
	}
	s.refreshFiles(ctx, rec, next)
	if len(next.Published) == 0 {
		s.portEvents(rec, rec.Network.Published, "unpublish", time.Now())
	}
	s.networkEvent(n, "disconnect", rec)
	return s.rewrite(c, func(r *moss.Container) { r.Endpoints, r.Network = wanted, &next })
}

// ownNetwork says whether a mode uses somebody else's network namespace.
func ownNetwork(mode moss.NetworkMode) bool {
	return mode == moss.NetworkHost || strings.HasPrefix(string(mode), "container:")
}

// bridged says whether a mode gives a container end points in bridge networks.
func bridged(mode moss.NetworkMode) bool { return !ownNetwork(mode) && mode != moss.NetworkNone }

// checkEndpoint refuses what only networks of users have.
func checkEndpoint(network string, e moss.Endpoint) error {
	if network != string(moss.NetworkBridge) {
		return nil
	}
	if e.Address.IsValid() || e.Address6.IsValid() {
		return moss.Errorf(moss.Invalid, "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
	}
	if len(e.Links) > 0 {
		return moss.Errorf(moss.Invalid, "invalid config for network bridge: invalid endpoint settings:\nlinks are only supported for user-defined networks")
	}
	if len(e.Aliases) > 0 {
		return moss.Errorf(moss.Invalid, "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks")
	}
	return nil
}

// endpoints are those of a new container, by the networks' names.
func (e *Engine) endpoints(ctx context.Context, mode moss.NetworkMode, asked map[string]moss.Endpoint) (map[string]moss.Endpoint, error) {
	if !bridged(mode) {
		for name := range asked {
			if name != string(mode) {
				return nil, moss.Errorf(moss.Invalid, "conflicting options: cannot attach a container in network mode %q to network %q as well", mode, name)
			}
		}
		return nil, nil
	}
	out := map[string]moss.Endpoint{}
	add := func(ref string, end moss.Endpoint) error {
		if ref == "default" {
			ref = string(moss.NetworkBridge)
		}
		n, err := e.network(ctx, ref)
		if err != nil {
			// Not of class NotFound: docker's client would take the image to be missing, and pull it.
			return moss.Errorf(moss.Invalid, "%s", err.Error())
		}
		if !bridged(moss.NetworkMode(n.Name)) {
			return moss.Errorf(moss.Invalid, "conflicting options: cannot attach a container to network %q beside others", n.Name)
		}
		if err := checkEndpoint(n.Name, end); err != nil {
			return err
		}
		out[n.Name] = end
		return nil
	}
	if err := add(string(mode), moss.Endpoint{}); err != nil {
		return nil, err
	}
	for name, end := range asked {
		if err := add(name, end); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// networkEvent tells the world of a network's change.
func (e *Engine) networkEvent(n moss.Network, action string, c *moss.Container) {
	e.tellNetwork(n, action, c, time.Now())
}

func (e *Engine) tellNetwork(n moss.Network, action string, c *moss.Container, at time.Time) {
	attrs := map[string]string{"name": n.Name, "type": n.Driver}
	if c != nil {
		attrs["container"] = string(c.ID)
	}
	e.Events.Publish(moss.Event{Type: moss.NetworkEvent, Action: action, ActorID: string(n.ID), Attributes: attrs, Time: at})
}

// networkEvents tells of a container's coming to all its networks, or its going.
func (e *Engine) networkEvents(rec *moss.Container, a moss.Attachment, action string, at time.Time) {
	for _, i := range a.Interfaces() {
		name, driver := i.Name, "bridge"
		if name == "" { // made by an older engine
			name = string(a.Mode)
		}
		switch a.Mode {
		case moss.NetworkHost:
			driver = "host"
		case moss.NetworkNone:
			driver = "null"
		default: // a bridge
		}
		e.tellNetwork(moss.Network{ID: i.Network, Name: name, Driver: driver}, action, rec, at)
	}
}

// portEvents tells of each port that is published, or no more. docker has no such events.
func (e *Engine) portEvents(rec *moss.Container, ports []moss.PublishedPort, action string, at time.Time) {
	for _, p := range ports {
		port := strconv.Itoa(int(p.Binding.Port.Number)) + "/" + string(p.Binding.Port.Proto)
		attrs := []string{"port", port, "hostPort", strconv.Itoa(int(p.Binding.HostPort))}
		if p.Binding.HostIP.IsValid() {
			attrs = append(attrs, "hostIp", p.Binding.HostIP.String())
		}
		e.publish(rec, action, at, attrs...)
	}
}

// adoptNetworks makes the networks of the records work again.
func (e *Engine) adoptNetworks(ctx context.Context) {
	nets, bad, err := e.NetworkRecords.LoadNetworks()
	for key, err := range bad {
		e.Log.Error("a network's record cannot be read; it is left as it is", "network", key, "error", err)
	}
	if err == nil {
		err = e.NetworkMaker.Adopt(ctx, nets)
	}
	if err != nil {
		e.Log.Error("not every network could be restored", "error", err)
	}
}
