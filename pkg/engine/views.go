package engine

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Views tells of containers.
type Views struct{ *Engine }

// Views returns the service that tells of containers.
func (e *Engine) Views() Views { return Views{e} }

// Get finds a container by name, id or unique id prefix.
func (s Views) Get(ref string) (moss.Container, error) {
	c, err := s.find(ref)
	if err != nil {
		return moss.Container{}, err
	}
	rec := *c.record()
	rec.Execs = s.execsOf(c.id)
	s.tellLinks(&rec)
	return rec, nil
}

// List returns the containers that a filter chooses, the newest first. They are
// not to be changed; one that has changed is another one.
func (s Views) List(f moss.ContainerFilter) ([]*moss.Container, error) {
	m, err := s.matcher(f)
	if err != nil {
		return nil, err
	}
	var out []*moss.Container
	all := s.all()
	links := s.linkNames(all)
	for _, c := range all {
		rec := c.record()
		if names := links[rec.ID]; len(names) > 0 {
			linked := *rec
			linked.LinkedAs, rec = names, &linked
		}
		if !m.matches(rec) {
			continue
		}
		out = append(out, rec)
		if f.Limit > 0 && len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

// matcher is a filter made ready: expressions compiled, names looked up.
type matcher struct {
	moss.ContainerFilter
	names         []*regexp.Regexp
	images        []moss.ImageID
	before, since *moss.Container
}

func (s Views) matcher(f moss.ContainerFilter) (*matcher, error) {
	m := &matcher{ContainerFilter: f}
	for _, n := range f.Names {
		re, err := regexp.Compile(n)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "invalid filter 'name=%s': %w", n, err)
		}
		m.names = append(m.names, re)
	}
	for ref, to := range map[string]**moss.Container{f.Before: &m.before, f.Since: &m.since} {
		if ref == "" {
			continue
		}
		c, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		*to = c.record()
	}
	for _, a := range f.Ancestors {
		// An unknown ancestor has no descendants; that is no error.
		image, err := s.Engine.Images.Resolve(s.ctx, a)
		if err != nil {
			continue
		}
		m.images = append(m.images, image.ID)
		all, err := s.Engine.Images.List(s.ctx)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if standsOn(other.DiffIDs, image.DiffIDs) {
				m.images = append(m.images, other.ID)
			}
		}
	}
	return m, nil
}

// standsOn says whether an image with the given layers has more of them than
// the other, and all of the other's below.
func standsOn(layers, base []string) bool {
	return len(base) > 0 && len(layers) > len(base) && slices.Equal(layers[:len(base)], base)
}

func (m *matcher) matches(rec *moss.Container) bool {
	if !m.All && m.Limit == 0 && len(m.States) == 0 && len(m.ExitCodes) == 0 && m.before == nil && m.since == nil && !rec.State.Alive() && rec.State != moss.StateRestarting {
		return false
	}
	switch {
	case len(m.IDs) > 0 && !slices.ContainsFunc(m.IDs, func(id string) bool { return strings.HasPrefix(string(rec.ID), id) }):
	case len(m.names) > 0 && !slices.ContainsFunc(m.names, func(re *regexp.Regexp) bool { return namedBy(rec, re) }):
	case !hasLabels(rec.Config.Labels, m.Labels):
	case len(m.States) > 0 && !slices.Contains(m.States, rec.State):
	case len(m.ExitCodes) > 0 && (rec.State.Alive() || rec.Run.StartedAt.IsZero() || !slices.Contains(m.ExitCodes, rec.Run.ExitCode)):
	case len(m.Health) > 0 && !slices.Contains(m.Health, rec.Health()):
	case len(m.Ancestors) > 0 && !slices.Contains(m.images, rec.Image):
	case m.before != nil && !rec.Created.Before(m.before.Created):
	case m.since != nil && !rec.Created.After(m.since.Created):
	case len(m.Networks) > 0 && !slices.ContainsFunc(m.Networks, func(n string) bool { return onNetwork(rec, n) }):
	case len(m.Publish) > 0 && !slices.ContainsFunc(m.Publish, func(p string) bool { return hasPort(published(rec), p) }):
	case len(m.Expose) > 0 && !slices.ContainsFunc(m.Expose, func(p string) bool { return hasPort(rec.Config.ExposedPorts, p) }):
	case len(m.Volumes) > 0 && !slices.ContainsFunc(m.Volumes, func(v string) bool { return hasMount(rec, v) }):
	default:
		return true
	}
	return false
}

// namedBy says whether an expression matches one of a container's names.
func namedBy(rec *moss.Container, re *regexp.Regexp) bool {
	return slices.ContainsFunc(append([]string{rec.Name}, rec.LinkedAs...), func(name string) bool {
		return re.MatchString(name) || re.MatchString("/"+name)
	})
}

func hasLabels(have map[string]string, want []string) bool {
	for _, w := range want {
		k, v, valued := strings.Cut(w, "=")
		got, ok := have[k]
		if !ok || (valued && got != v) {
			return false
		}
	}
	return true
}

// onNetwork knows a network by its name or the beginning of its id.
func onNetwork(rec *moss.Container, name string) bool {
	if _, ok := rec.WantedEndpoints()[name]; ok || string(rec.Host.NetworkMode) == name {
		return true
	}
	return rec.Network != nil && name != "" && slices.ContainsFunc(rec.Network.Interfaces(), func(i moss.Interface) bool {
		return strings.HasPrefix(string(i.Network), name)
	})
}

func published(rec *moss.Container) []moss.Port {
	var ports []moss.Port
	for _, b := range rec.Host.PortBindings {
		ports = append(ports, b.Port)
	}
	if rec.Network != nil && rec.State.Alive() { // those of PublishAll too
		for _, p := range rec.Network.Published {
			ports = append(ports, p.Binding.Port)
		}
	}
	return ports
}

// hasPort understands 80, 80/tcp and 80-90/udp.
func hasPort(ports []moss.Port, want string) bool {
	span, proto, ok := strings.Cut(want, "/")
	if !ok {
		proto = string(moss.TCP)
	}
	from, to, err := portSpan(span)
	return err == nil && slices.ContainsFunc(ports, func(p moss.Port) bool {
		return string(p.Proto) == proto && from <= p.Number && p.Number <= to
	})
}

func hasMount(rec *moss.Container, path string) bool {
	return slices.ContainsFunc(rec.Mounts, func(m moss.MountPoint) bool { return m.Source == path || m.Target == path })
}

func portSpan(s string) (from, to uint16, err error) {
	low, high, ranged := strings.Cut(s, "-")
	n, err := strconv.ParseUint(low, 10, 16)
	if err != nil || !ranged {
		return uint16(n), uint16(n), err
	}
	m, err := strconv.ParseUint(high, 10, 16)
	return uint16(n), uint16(m), err
}
