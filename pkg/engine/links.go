package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Legacy links: a container on the default network, where names are not known,
// has another one's address, ports and environment under an alias. What it is
// told is what the other was like when it started; only its hosts file is kept
// up to date. Elsewhere a link is a name, and the network's.

// resolveLinks turns the names of linked containers into ids, in docker's words
// where that cannot be.
func (s Containers) resolveLinks(rec *moss.Container) (warnings []string, err error) {
	h := &rec.Host
	if len(h.Links) == 0 {
		return nil, nil
	}
	switch _, joins := h.NetworkMode.Joins(); {
	case joins:
		return nil, moss.Errorf(moss.Invalid, "conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case h.NetworkMode == moss.NetworkHost:
		return nil, errHostLinks()
	}
	var links []moss.Link
	for _, l := range h.Links {
		c, err := s.linkTarget(l.Container)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(links, func(o moss.Link) bool { return o.Alias == l.Alias })
		switch {
		case at < 0:
			links = append(links, moss.Link{Container: string(c.id), Alias: l.Alias})
		case links[at].Container != string(c.id):
			warnings = append(warnings, fmt.Sprintf("The link to %s is discarded: its alias %s is taken by another one", l.Container, l.Alias))
		}
	}
	h.Links = links
	if h.NetworkMode == moss.NetworkNone {
		h.Links, warnings = nil, append(warnings, "Links are discarded when using none network mode")
	}
	return warnings, nil
}

func errHostLinks() error {
	return moss.Errorf(moss.Invalid, "conflicting options: host type networking can't be used with links. This would result in undefined behavior")
}

// linkTarget is the container that a link means: whose network it is.
func (e *Engine) linkTarget(ref string) (*container, error) {
	for {
		c, err := e.find(ref)
		if err != nil {
			// Not of class NotFound: docker's client would take the image to be missing.
			return nil, moss.Errorf(moss.Invalid, "could not get container for %s: %s", ref, err.Error())
		}
		mode := c.record().Host.NetworkMode
		if mode == moss.NetworkHost {
			return nil, errHostLinks()
		}
		next, joins := mode.Joins() // made before, so there is no circle
		if !joins {
			return c, nil
		}
		ref = next
	}
}

// onDefault is a running container's place in the default network.
func onDefault(rec *moss.Container) (moss.Interface, bool) {
	if rec.Network == nil {
		return moss.Interface{}, false
	}
	for _, i := range rec.Network.Interfaces() {
		if i.Name == string(moss.NetworkBridge) || i.Name == "" && rec.Network.Mode == moss.NetworkBridge {
			return i, i.Address.IsValid() || i.Address6.IsValid()
		}
	}
	return moss.Interface{}, false
}

// link is a link with the container that it leads to.
type link struct {
	alias string
	owner string // by name
	to    *moss.Container
}

// path is the name that the linked container has by the link.
func (l link) path() string { return l.owner + "/" + l.alias }

// linksOf are a container's links to containers that are still there.
func (e *Engine) linksOf(rec *moss.Container) []link {
	var out []link
	for _, l := range rec.Host.Links {
		e.mu.RLock()
		c := e.containers[moss.ContainerID(l.Container)]
		e.mu.RUnlock()
		if c != nil {
			out = append(out, link{l.Alias, rec.Name, c.record()})
		}
	}
	return out
}

// linked are the links that a start heeds: all of them must lead somewhere.
func (e *Engine) linked(rec *moss.Container) ([]link, error) {
	if _, ok := rec.WantedEndpoints()[string(moss.NetworkBridge)]; !ok || !bridged(rec.Host.NetworkMode) {
		return nil, nil
	}
	links := e.linksOf(rec)
	for _, l := range links {
		if !l.to.State.Alive() {
			return nil, moss.Errorf(moss.Conflict, "Cannot link to a non running container: /%s AS /%s", l.to.Name, l.path())
		}
		if _, ok := onDefault(l.to); !ok {
			return nil, moss.Errorf(moss.Conflict, "Cannot link to /%s, as it does not belong to the default network", l.to.Name)
		}
	}
	return links, nil
}

// withLiveLinks is a running container with what its links are worth now.
func (e *Engine) withLiveLinks(rec *moss.Container) *moss.Container {
	if len(rec.Host.Links) == 0 {
		return rec
	}
	links, err := e.linked(rec)
	if err != nil { // one does not run: docker would refuse the exec
		links = slices.DeleteFunc(e.linksOf(rec), func(l link) bool { _, ok := onDefault(l.to); return !ok || !l.to.State.Alive() })
	}
	with := withLinks(*rec, links)
	return &with
}

// linkedHosts are the lines that links are worth in /etc/hosts. A container that
// has gone from the default network has none.
func linkedHosts(links []link) []moss.LinkedHost {
	var out []moss.LinkedHost
	for _, l := range links {
		h := moss.LinkedHost{Names: []string{l.alias, l.to.Config.Hostname}}
		if l.to.Name != l.alias {
			h.Names = append(h.Names, l.to.Name)
		}
		i, _ := onDefault(l.to)
		for _, a := range []netip.Prefix{i.Address, i.Address6} {
			if a.IsValid() {
				h.Addresses = append(h.Addresses, a.Addr())
			}
		}
		out = append(out, h)
	}
	return out
}

// withLinks lays what links are worth below a container's own environment.
func withLinks(rec moss.Container, links []link) moss.Container {
	var env []string
	for _, l := range links {
		env = append(env, linkEnv(l)...)
	}
	rec.Config.Env = slices.Concat(env, rec.Config.Env)
	return rec
}

// followLinks brings the hosts of those up to date that link to a container which
// has another address now, and its own: what it links to may have moved
// while it was started. Both look after they have been written down, so one of
// two that start side by side sees the other.
func (e *Engine) followLinks(ctx context.Context, c *container) {
	rec := c.record()
	if len(rec.Host.Links) > 0 {
		e.refreshLinks(ctx, rec, "")
	}
	for _, other := range e.all() {
		owner := other.record()
		for _, l := range owner.Host.Links {
			if l.Container == string(c.id) {
				e.refreshLinks(ctx, owner, "")
				break
			}
		}
	}
}

// refreshLinks writes a running container's links into its hosts; gone is the
// alias of one that it had.
func (e *Engine) refreshLinks(ctx context.Context, rec *moss.Container, gone string) {
	r, ok := e.Runtime.(LinkRefresher)
	if _, linked := onDefault(rec); !ok || !linked || !rec.State.Alive() {
		return
	}
	// A container that does not run keeps its last address in the files, as docker has it.
	links := slices.DeleteFunc(e.linksOf(rec), func(l link) bool { return !l.to.State.Alive() })
	hosts := linkedHosts(links)
	if gone != "" {
		hosts = append(hosts, moss.LinkedHost{Names: []string{gone}})
	}
	e.hosts.Lock()
	err := r.RefreshLinks(ctx, bundle(rec, moss.Mount{}, nil, *rec.Network), hosts)
	e.hosts.Unlock()
	if err != nil {
		e.Log.Warn("a container's hosts do not have its links", "container", rec.Name, "error", err)
	}
}

// Unlink takes a link away, which is named OWNER/ALIAS.
func (s Containers) Unlink(ctx context.Context, ref string) error {
	ref = strings.TrimPrefix(ref, "/")
	owner, alias, ok := strings.Cut(ref, "/")
	if !ok {
		if _, err := s.find(ref); err != nil {
			return err
		}
		return moss.Errorf(moss.Conflict, "Conflict, cannot remove the default link name of the container")
	}
	if _, err := s.find(ref); err != nil {
		return err
	}
	c, err := s.locked(ctx, owner)
	if err != nil {
		return moss.Errorf(moss.NotFound, "Cannot get parent %s for link name /%s", owner, ref)
	}
	defer c.release()
	ctx = context.WithoutCancel(ctx)
	err = s.rewrite(c, func(r *moss.Container) {
		r.Host.Links = slices.DeleteFunc(slices.Clone(r.Host.Links), func(l moss.Link) bool { return l.Alias == alias })
	})
	if err != nil {
		return moss.Wrap(err, "unlink", ref)
	}
	s.refreshLinks(ctx, c.record(), alias)
	return nil
}

// byLink finds a container by the name OWNER/ALIAS; nil where there is none. The
// caller holds mu.
func (e *Engine) byLink(name string) *container {
	owner, alias, ok := strings.Cut(name, "/")
	if !ok {
		return nil
	}
	c := e.containers[e.names[owner]]
	if c == nil {
		return nil
	}
	for _, l := range c.record().Host.Links {
		if l.Alias == alias {
			return e.containers[moss.ContainerID(l.Container)]
		}
	}
	return nil
}

// linkNames are what those that link to containers call them, by id.
func (e *Engine) linkNames(all []*container) map[moss.ContainerID][]string {
	var out map[moss.ContainerID][]string
	for _, c := range all {
		rec := c.record()
		for _, l := range rec.Host.Links {
			if out == nil {
				out = map[moss.ContainerID][]string{}
			}
			id := moss.ContainerID(l.Container)
			out[id] = append(out[id], rec.Name+"/"+l.Alias)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// tellLinks fills in what a look at a container's record tells of its links.
func (e *Engine) tellLinks(rec *moss.Container) {
	rec.LinkedTo = nil
	for _, l := range e.linksOf(rec) {
		rec.LinkedTo = append(rec.LinkedTo, "/"+l.to.Name+":/"+l.path())
	}
}
