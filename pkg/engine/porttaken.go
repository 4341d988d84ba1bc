package engine

import (
	"net/netip"

	"github.com/moss-containers/moss/pkg/moss"
)

// portTaken names the container that has a port which could not be published,
// in docker's words. What no container has keeps its error.
func (e *Engine) portTaken(rec *moss.Container, net moss.Attachment, ports []moss.PortBinding, err error) error {
	if moss.ClassOf(err) != moss.Conflict {
		return err
	}
	for _, b := range ports {
		if b.Choices() > 1 {
			continue
		}
		if owner, at := e.publisher(rec.ID, b); owner != "" {
			return moss.Errorf(moss.Conflict, "driver failed programming external connectivity on endpoint %s (%s): Bind for %s failed: port is already allocated: container %s publishes it",
				rec.Name, net.Endpoint, at, owner)
		}
	}
	return err
}

// publisher is the name of a container, other than id, that publishes a port, and where.
func (e *Engine) publisher(id moss.ContainerID, b moss.PortBinding) (string, netip.AddrPort) {
	for _, c := range e.all() {
		rec := c.record()
		if c.id == id || rec.Network == nil {
			continue
		}
		for _, p := range rec.Network.Published {
			if o := p.Binding; o.Port.Proto == b.Port.Proto && o.HostPort == b.HostPort && sameHostIP(o.HostIP, b.HostIP) {
				return rec.Name, netip.AddrPortFrom(o.HostIP, o.HostPort)
			}
		}
	}
	return "", netip.AddrPort{}
}

// sameHostIP says whether two addresses to listen at exclude each other. An
// invalid one is all of both families.
func sameHostIP(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() || a == b {
		return true
	}
	return a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
