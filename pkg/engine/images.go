package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Images is the image side.
type Images struct{ *Engine }

// ImageService returns the service of the image side.
func (e *Engine) ImageService() Images { return Images{e} }

// Get finds an image by name, id or unique id prefix.
func (s Images) Get(ctx context.Context, ref string) (moss.Image, error) {
	return s.Engine.Images.Resolve(ctx, ref)
}

// List returns every image.
func (s Images) List(ctx context.Context) ([]moss.Image, error) {
	return s.Engine.Images.List(ctx)
}

// Tag gives an image a further name.
func (s Images) Tag(ctx context.Context, ref, name string) error {
	image, err := s.Engine.Images.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	normal, err := s.Engine.Images.Tag(ctx, image.ID, name)
	if err != nil {
		return err
	}
	s.imageEvent("tag", image.ID, normal)
	return nil
}

// Remove takes a name away, or with an id every name, and deletes an image that
// has none left. Errors: Conflict while containers use it.
func (s Images) Remove(ctx context.Context, ref string, force, _ bool) ([]moss.ImageRemoval, error) {
	image, err := s.Engine.Images.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	byID := isIDOf(image.ID, ref) && !hasName(image, ref)
	last := byID || len(image.Names) <= 1
	if last {
		inUse, err := s.checkUnused(image, ref, byID, force)
		if err != nil {
			return nil, err
		}
		last = !inUse
	}
	if byID && len(image.Names) > 1 && !force {
		return nil, moss.Errorf(moss.Conflict, "conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", image.ID.Short())
	}
	names := image.Names
	if !byID {
		names = []string{ref}
	}
	var done []moss.ImageRemoval
	for _, name := range names {
		if err := s.Engine.Images.Untag(ctx, name); err != nil {
			return done, err
		}
		done = append(done, moss.ImageRemoval{Untagged: name})
		s.imageEvent("untag", image.ID, name)
	}
	if !last {
		return done, nil
	}
	deleted, err := s.Engine.Images.Delete(ctx, image.ID)
	if err == nil {
		s.imageEvent("delete", image.ID, string(image.ID))
	}
	return append(done, deleted...), err
}

// checkUnused refuses to delete an image that containers are made from: never
// for a running one, and for the others only by force and by name, which takes
// the name away and leaves the layers for as long as the container is there.
func (s Images) checkUnused(image moss.Image, ref string, byID, force bool) (inUse bool, err error) {
	for _, c := range s.all() {
		rec := c.record()
		if rec.Image != image.ID {
			continue
		}
		inUse = true
		live := rec.State.Alive() || rec.State == moss.StateRestarting
		switch {
		case live && byID:
			return true, moss.Errorf(moss.Conflict, "conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", image.ID.Short(), rec.ID.Short())
		case live:
			return true, moss.Errorf(moss.Conflict, "conflict: unable to remove repository reference %q (cannot be forced) - container %s is using its referenced image %s", ref, rec.ID.Short(), image.ID.Short())
		case force && byID:
			return true, moss.Errorf(moss.Conflict, "conflict: unable to delete %s (cannot be forced) - stopped container %s is made of its layers: remove that container first", image.ID.Short(), rec.ID.Short())
		case byID:
			return true, moss.Errorf(moss.Conflict, "conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", image.ID.Short(), rec.ID.Short())
		case !force:
			return true, moss.Errorf(moss.Conflict, "conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, rec.ID.Short(), image.ID.Short())
		}
	}
	return inUse, nil
}

func isIDOf(id moss.ImageID, ref string) bool {
	hex := strings.TrimPrefix(ref, "sha256:")
	return hex != "" && strings.HasPrefix(strings.TrimPrefix(string(id), "sha256:"), hex)
}

// hasName says whether ref is one of an image's names: a short one may be made
// of hex digits, and names are looked up before ids.
func hasName(image moss.Image, ref string) bool {
	return slices.ContainsFunc(image.Names, func(name string) bool {
		return name == ref || strings.HasSuffix(name, "/"+ref) || strings.HasSuffix(name, "/"+ref+":latest")
	})
}

func (e *Engine) imageEvent(action string, id moss.ImageID, name string) {
	e.Events.Publish(moss.Event{Type: moss.ImageEvent, Action: action, ActorID: string(id), Attributes: map[string]string{"name": name}})
}
