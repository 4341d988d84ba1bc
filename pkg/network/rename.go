package network

import (
	"slices"

	"github.com/moss-containers/moss/pkg/moss"
)

// Rename gives a running container's new name to its networks: from now on it is
// found by it, and by the old one no more.
func (n *Networks) Rename(c *moss.Container, a moss.Attachment) moss.Attachment {
	n.setName(c.ID, c.Name)
	wanted := c.WantedEndpoints()
	named := func(i moss.Interface) moss.Interface {
		i.Names = n.namesIn(c, i, wanted[i.Name])
		n.zone.add(c.ID, i)
		return i
	}
	if a.Network != "" {
		a.Interface = named(a.Interface)
	}
	a.Others = slices.Clone(a.Others)
	for at, i := range a.Others {
		a.Others[at] = named(i)
	}
	return a
}
