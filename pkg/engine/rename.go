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
	old := c.record().Name
	if name == old {
		return moss.Errorf(moss.Invalid, "Renaming a container with the same name as its current name")
	}
	if _, err := s.reserve(c.id, name); err != nil {
		return err
	}
	if err := s.rewrite(c, func(r *moss.Container) { r.Name = name }); err != nil {
		s.unreserve(name)
		return moss.Wrap(err, "rename", old)
	}
	s.unreserve(old)
	s.publish(c.record(), "rename", time.Now(), "oldName", "/"+old)
	return nil
}
