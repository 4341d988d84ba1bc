package engine

import (
	"context"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Rename gives a container another name. Errors: Conflict for one that is taken.
func (s Containers) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if ref == "" || name == "" {
		return moss.Errorf(moss.Invalid, "Neither old nor new names may be empty")
	}
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	before := c.record()
	old := before.Name
	if name == old {
		return moss.Errorf(moss.Invalid, "Renaming a container with the same name as its current name")
	}
	if _, err := s.reserve(c.id, name); err != nil {
		return err
	}
	err = s.rewrite(c, func(r *moss.Container) {
		r.Name = name
		r.Network = s.renamedIn(r)
	})
	if err != nil {
		s.renamedIn(before)
		s.unreserve(name)
		return moss.Wrap(err, "rename", old)
	}
	s.unreserve(old)
	s.publish(c.record(), "rename", time.Now(), "oldName", "/"+old)
	return nil
}

// renamedIn tells the networks of a running container what it is called now.
func (e *Engine) renamedIn(rec *moss.Container) *moss.Attachment {
	f, ok := e.Networks.(NameFollower)
	if !ok || rec.Network == nil || !rec.State.Alive() || ownNetwork(rec.Host.NetworkMode) {
		return rec.Network
	}
	next := f.Rename(rec, *rec.Network)
	return &next
}
