package engine

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// SecretService keeps secrets and configs and tells who uses them.
type SecretService struct{ *Engine }

// SecretService returns the service of secrets and configs.
func (e *Engine) SecretService() SecretService { return SecretService{e} }

// Create makes a secret or a config. Errors: Invalid, Conflict for a name in use.
func (s SecretService) Create(ctx context.Context, r moss.SecretRequest) (moss.Secret, error) {
	made, err := s.Secrets.Create(ctx, r)
	if err == nil {
		s.publishSecret(made, "create")
	}
	return made, err
}

// Get finds one by id, name or unique beginning of an id. Errors: NotFound, Invalid.
func (s SecretService) Get(kind moss.SecretKind, ref string) (moss.Secret, error) {
	return s.findSecret(kind, ref)
}

// Data is a config's content. A secret's is for containers alone. Errors: NotFound.
func (s SecretService) Data(ctx context.Context, config moss.SecretID) ([]byte, error) {
	if c, err := s.findSecret(moss.KindConfig, string(config)); err != nil || c.ID != config {
		return nil, moss.Errorf(moss.NotFound, "config %s not found", config)
	}
	return s.Secrets.Data(ctx, config)
}

// List returns those that a filter chooses, by name.
func (s SecretService) List(f moss.SecretFilter) []moss.Secret {
	begins := func(beginnings []string, whole string) bool {
		return len(beginnings) == 0 || slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(whole, b) })
	}
	return slices.DeleteFunc(s.Secrets.List(f.Kind), func(one moss.Secret) bool {
		return len(f.Names) > 0 && !slices.Contains(f.Names, one.Name) || !begins(f.Prefixes, one.Name) ||
			!begins(f.IDs, string(one.ID)) || !hasLabels(one.Labels, f.Labels)
	})
}

// Relabel changes the labels, which is all that can be changed. Errors: NotFound,
// Invalid where it has changed since the version told.
func (s SecretService) Relabel(ctx context.Context, kind moss.SecretKind, ref string, version uint64, labels map[string]string) error {
	one, err := s.findSecret(kind, ref)
	if err != nil {
		return err
	}
	one, err = s.Secrets.Relabel(ctx, one.ID, version, labels)
	if err == nil {
		s.publishSecret(one, "update")
	}
	return err
}

// Remove takes one away. Errors: NotFound, Conflict while a container has it,
// running or not.
func (s SecretService) Remove(ctx context.Context, kind moss.SecretKind, ref string) error {
	one, err := s.findSecret(kind, ref)
	if err != nil {
		return err
	}
	done, err := s.secretClaims.take(ctx, one.ID, true)
	if err != nil {
		return err
	}
	defer done()
	if users := s.secretUsers(one.ID); len(users) == 1 {
		return moss.Errorf(moss.Conflict, "%s '%s' is in use by the following container: %s", kind, one.Name, users[0])
	} else if len(users) > 1 {
		return moss.Errorf(moss.Conflict, "%s '%s' is in use by the following containers: %s", kind, one.Name, strings.Join(users, ", "))
	}
	if err := s.Secrets.Remove(ctx, one.ID); err != nil {
		return err
	}
	s.publishSecret(one, "remove")
	return nil
}

// findSecret looks among the secrets or the configs, as docker does.
func (e *Engine) findSecret(kind moss.SecretKind, ref string) (moss.Secret, error) {
	list := e.Secrets.List(kind)
	if ref == "" {
		return moss.Secret{}, moss.Errorf(moss.Invalid, "the name or id of a %s is missing", kind)
	}
	for _, fits := range []func(moss.Secret) bool{
		func(s moss.Secret) bool { return string(s.ID) == ref },
		func(s moss.Secret) bool { return s.Name == ref },
		func(s moss.Secret) bool { return strings.HasPrefix(string(s.ID), ref) },
	} {
		found := slices.DeleteFunc(slices.Clone(list), func(s moss.Secret) bool { return !fits(s) })
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return moss.Secret{}, moss.Errorf(moss.Invalid, "%s %s is ambiguous (%d matches found)", kind, ref, len(found))
		}
	}
	return moss.Secret{}, moss.Errorf(moss.NotFound, "%s %s not found", kind, ref)
}

// secretUsers names the containers that have a secret: what the records say.
func (e *Engine) secretUsers(id moss.SecretID) (names []string) {
	for _, c := range e.all() {
		rec := c.record()
		if slices.ContainsFunc(rec.Host.Secrets, func(u moss.SecretUse) bool { return u.ID == id }) {
			names = append(names, rec.Name)
		}
	}
	return names
}

// takeSecrets finds the secrets and configs that a new container asks for. Until
// done is called, none of them goes away. Only the request's own labels count:
// an image must not help itself. done is never nil, and may be called again.
func (s Containers) takeSecrets(ctx context.Context, rec *moss.Container, labels map[string]string) (done func(), err error) {
	var held releases
	done = held.all
	uses, err := moss.SecretUses(labels)
	if err != nil {
		return done, err
	}
	for i := range uses {
		u := &uses[i]
		taken := func(m moss.MountPoint) bool { return path.Clean(m.Target) == u.Target }
		if slices.ContainsFunc(rec.Mounts, taken) || i > 0 && uses[i-1].Target == u.Target {
			return done, moss.Errorf(moss.Invalid, "Duplicate mount point: %s", u.Target)
		}
		one, err := s.findSecret(u.Kind, u.Name)
		if err != nil {
			return done, notMissing(err)
		}
		release, err := s.secretClaims.take(ctx, one.ID, false)
		if err != nil {
			return done, err
		}
		held.add(release)
		if now, err := s.findSecret(u.Kind, string(one.ID)); err != nil || now.ID != one.ID { // removed meanwhile
			return done, moss.Errorf(moss.Invalid, "%s %s not found", u.Kind, u.Name)
		}
		u.ID, u.Name = one.ID, one.Name
	}
	rec.Host.Secrets = uses
	return done, nil
}

// placeSecrets gives a container's secrets and configs as mounts, after its others.
func (e *Engine) placeSecrets(ctx context.Context, rec *moss.Container, points []moss.MountPoint) ([]moss.MountPoint, error) {
	if len(rec.Host.Secrets) == 0 {
		return points, nil
	}
	uses := slices.Clone(rec.Host.Secrets)
	for i := range uses {
		if u := &uses[i]; rec.IDMaps != nil {
			uid, known := moss.ToEngine(rec.IDMaps.UIDs, u.UID)
			gid, alsoKnown := moss.ToEngine(rec.IDMaps.GIDs, u.GID)
			if !known || !alsoKnown {
				return points, moss.Errorf(moss.Invalid, "the %s %s cannot belong to %d:%d: the container's user namespace has no such id", u.Kind, u.Name, u.UID, u.GID)
			}
			u.UID, u.GID = uid, gid
		}
	}
	files, err := e.SecretFiles.Place(ctx, rec.ID, uses)
	for i := range files {
		files[i].Relabel = "Z"
	}
	return slices.Concat(points, files), err
}

// withdrawSecrets undoes placeSecrets; nil when there is nothing.
func (e *Engine) withdrawSecrets(ctx context.Context, rec *moss.Container) error {
	if len(rec.Host.Secrets) == 0 {
		return nil
	}
	return e.SecretFiles.Withdraw(ctx, rec.ID)
}

func (e *Engine) publishSecret(s moss.Secret, action string) {
	e.Events.Publish(moss.Event{
		Type: moss.EventType(s.Kind), Action: action, ActorID: string(s.ID),
		Attributes: map[string]string{"name": s.Name}, Time: time.Now(),
	})
}
