package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// Remove takes a name away, or with an id every name, and deletes an image that
// has none left, in docker's order and with docker's refusals. An image that a
// container stands on keeps its layers; by force it loses its names only. There
// are no parents without names to remove besides, so noprune has nothing to hold back.
// Errors: NotFound, Conflict.
func (s Images) Remove(ctx context.Context, ref string, force, _ bool) ([]moss.ImageRemoval, error) {
	image, release, err := s.claim(ctx, ref, true)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx = context.WithoutCancel(ctx) // once begun it is finished
	r := removal{Engine: s.Engine, image: image, refs: slices.Concat(image.Names, image.Digests), force: force}
	if name := nameOf(ref, image); name != "" {
		return r.byName(ctx, ref, name)
	}
	return r.byID(ctx)
}

// removal is one removal of an image, whose turn the caller holds.
type removal struct {
	*Engine
	image moss.Image
	refs  []string // those that are left
	force bool
	done  []moss.ImageRemoval
}

func (r *removal) byName(ctx context.Context, ref, name string) ([]moss.ImageRemoval, error) {
	user := r.userOf(r.image.ID)
	if user != nil && !r.force && oneReference(r.refs) {
		return nil, moss.Errorf(moss.Conflict, "conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, user.ID.Short(), r.image.ID.Short())
	}
	if err := r.untag(ctx, name); err != nil {
		return nil, err
	}
	// A digest is how the last tag of its repository came; it goes with that.
	sibling := func(ref string) bool { return repository(ref) == repository(name) }
	if !isDigest(name) && !slices.ContainsFunc(r.refs, func(ref string) bool { return !isDigest(ref) && sibling(ref) }) {
		for _, ref := range slices.Clone(r.refs) {
			if !sibling(ref) {
				continue
			}
			if err := r.untag(ctx, ref); err != nil {
				return r.done, err
			}
		}
	}
	if len(r.refs) > 0 || user != nil {
		return r.done, nil
	}
	return r.delete(ctx)
}

func (r *removal) byID(ctx context.Context) ([]moss.ImageRemoval, error) {
	user := r.userOf(r.image.ID)
	refuse := func(how, format string, args ...any) ([]moss.ImageRemoval, error) {
		return nil, moss.Errorf(moss.Conflict, "conflict: unable to delete %s (%s) - "+format, append([]any{r.image.ID.Short(), how}, args...)...)
	}
	switch {
	case user != nil && runs(user):
		return refuse("cannot be forced", "image is being used by running container %s", user.ID.Short())
	case !r.force && !oneReference(r.refs):
		return refuse("must be forced", "image is referenced in multiple repositories")
	case !r.force && user != nil:
		return refuse("must be forced", "image is being used by stopped container %s", user.ID.Short())
	case user != nil && len(r.refs) == 0:
		return refuse("cannot be forced", "stopped container %s is made of its layers: remove that container first", user.ID.Short())
	}
	if err := r.untagAll(ctx); err != nil {
		return r.done, err
	}
	if user != nil {
		return r.done, nil
	}
	return r.delete(ctx)
}

func (r *removal) untagAll(ctx context.Context) error {
	for _, ref := range slices.Clone(r.refs) {
		if err := r.untag(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

func (r *removal) untag(ctx context.Context, ref string) error {
	if err := r.Images.Untag(ctx, ref); err != nil {
		return err
	}
	r.refs = slices.DeleteFunc(r.refs, func(left string) bool { return left == ref })
	r.done = append(r.done, moss.ImageRemoval{Untagged: ref})
	r.publishImage("untag", string(r.image.ID), r.image.Config.Labels, "name", string(r.image.ID))
	return nil
}

// delete deletes the image, which has no names left but such as came meanwhile
// by a pull or a load: those keep it.
func (r *removal) delete(ctx context.Context) ([]moss.ImageRemoval, error) {
	deleted, err := r.Images.Delete(ctx, r.image.ID)
	if err != nil {
		if again, lookErr := r.Images.Resolve(ctx, string(r.image.ID)); lookErr == nil && len(again.Names) > 0 && len(r.done) > 0 {
			return r.done, nil
		}
		return r.done, err
	}
	r.publishImage("delete", string(r.image.ID), nil, "name", string(r.image.ID))
	return append(r.done, deleted...), nil
}

// userOf returns a container that is made of an image or mounts it, a running one if there
// is one; nil for none.
func (e *Engine) userOf(id moss.ImageID) *moss.Container {
	var stopped *moss.Container
	for _, c := range e.all() {
		rec := c.record()
		switch {
		case !usesImage(rec, id):
		case runs(rec):
			return rec
		case stopped == nil:
			stopped = rec
		}
	}
	return stopped
}

// runs says whether a container counts as running for docker, which one that waits for its restart does.
func runs(rec *moss.Container) bool { return rec.State.Alive() || rec.State == moss.StateRestarting }

// nameOf returns which of an image's names, normalised, ref is; "" when it is
// the image's id or a prefix of that. Names are looked up before ids.
func nameOf(ref string, image moss.Image) string {
	any, err := reference.ParseAnyReference(ref)
	if err != nil {
		return ""
	}
	named, ok := any.(reference.Named)
	if !ok {
		return ""
	}
	if d, ok := named.(reference.Digested); ok {
		return reference.TrimNamed(named).Name() + "@" + d.Digest().String()
	}
	name := reference.TagNameOnly(named).String()
	if slices.Contains(image.Names, name) {
		return name
	}
	return ""
}

// oneReference says whether a tag and digests of one repository, or less, is all
// that an image has.
func oneReference(refs []string) bool {
	tags := 0
	for _, ref := range refs {
		if !isDigest(ref) {
			tags++
		}
		if repository(ref) != repository(refs[0]) {
			return false
		}
	}
	return tags <= 1
}

func isDigest(ref string) bool { return strings.Contains(ref, "@") }

// repository is a normalised reference without tag and digest.
func repository(ref string) string {
	name, _, digested := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); !digested && i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
