package engine_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

// faultySecrets are the secrets' files, with faults.
type faultySecrets struct {
	*fake.Secrets
	f *faults
}

func (s faultySecrets) Place(ctx context.Context, id moss.ContainerID, uses []moss.SecretUse) ([]moss.MountPoint, error) {
	if err := s.f.hit("SecretFiles.Place"); err != nil {
		return nil, err
	}
	return s.Secrets.Place(ctx, id, uses)
}

func (s faultySecrets) Withdraw(ctx context.Context, id moss.ContainerID) error {
	if err := s.f.hit("SecretFiles.Withdraw"); err != nil {
		return err
	}
	return s.Secrets.Withdraw(ctx, id)
}

// makeSecret makes one unless it is there.
func (r *rig) makeSecret(kind moss.SecretKind, name, data string) moss.Secret {
	r.t.Helper()
	s, err := r.SecretService().Create(r.t.Context(), moss.SecretRequest{Kind: kind, Name: name, Data: []byte(data)})
	if moss.ClassOf(err) == moss.Conflict && err != nil {
		s, err = r.SecretService().Get(kind, name)
	}
	r.must(err)
	return s
}

func withLabel(key, value string) option {
	return func(q *moss.CreateRequest) {
		if q.Config.Labels == nil {
			q.Config.Labels = make(map[string]string)
		}
		q.Config.Labels[key] = value
	}
}

// wrongSecrets says whose secrets lie about although they do not run.
func (r *rig) wrongSecrets(live map[moss.ContainerID]bool, say func(string, ...any)) {
	for _, id := range r.secrets.Placed() {
		if !live[id] {
			say("secrets of %s are left", id.Short())
		}
	}
}

// A secret lies in memory while the container runs, stays while a container has
// it, and is found again by the next daemon.
func TestSecretsOfContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		db := r.makeSecret(moss.KindSecret, "db", "geheim")
		r.makeSecret(moss.KindConfig, "conf", "offen")
		id := r.create(withLabel("moss.secret.db", "mode=0400,uid=7"), withLabel("moss.config.conf", "target=/etc/conf;"))
		inUse := func() {
			t.Helper()
			for _, ref := range []string{"db", string(db.ID), string(db.ID[:8])} {
				err := r.SecretService().Remove(t.Context(), moss.KindSecret, ref)
				if err == nil || moss.ClassOf(err) != moss.Conflict || !strings.Contains(err.Error(), "secret 'db' is in use by the following container: ") {
					t.Errorf("remove %s: %v", ref, err)
				}
			}
		}
		inUse()
		if placed := r.secrets.Placed(); len(placed) != 0 {
			t.Error("placed before the start:", placed)
		}
		r.must(r.Containers().Start(t.Context(), string(id)))
		b, _ := r.runtime.Bundle(id)
		var got []string
		for _, m := range b.Container.Mounts {
			data, err := os.ReadFile(m.Source)
			if err == nil {
				got = append(got, m.Target+"="+string(data))
			}
		}
		if want := []string{"/conf=offen", "/etc/conf=offen", "/run/secrets/db=geheim"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		r.crash()
		r.boot(false)
		inUse()
		if placed := r.secrets.Placed(); !slices.Equal(placed, []moss.ContainerID{id}) {
			t.Error("placed after a crash:", placed)
		}
		r.must(r.Containers().Remove(t.Context(), string(id), true))
		if placed := r.secrets.Placed(); len(placed) != 0 {
			t.Error("left after the end:", placed)
		}
		r.must(r.SecretService().Remove(t.Context(), moss.KindSecret, "db"))
		if _, err := r.SecretService().Get(moss.KindSecret, "db"); err == nil || moss.ClassOf(err) != moss.NotFound || err.Error() != "secret db not found" {
			t.Errorf("removed: %v", err)
		}
		r.check()
	})
}

func TestSecretsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		r.makeSecret(moss.KindSecret, "db", "geheim")
		for _, c := range []struct {
			o    []option
			want string
		}{
			{[]option{withLabel("moss.secret.nosuch", "")}, "secret nosuch not found"},
			{[]option{withLabel("moss.config.db", "")}, "config db not found"},
			{[]option{withLabel("moss.secret.db", "mode=9")}, `mode "9" is no number of that kind`},
			{[]option{withLabel("moss.secret.db", "mode=10000")}, "is no number of that kind"},
			{[]option{withLabel("moss.secret.db", "what=1")}, "none of target, mode, uid, gid"},
			{[]option{withLabel("moss.secret.db", "target=/")}, "the target is no path of a file"},
			{[]option{withLabel("moss.secret.db", "target=/a;target=/a/")}, "Duplicate mount point: /a"},
			{[]option{withLabel("moss.secret.db", "target=/data"), withVolume("data")}, "Duplicate mount point: /data"},
		} {
			_, err := r.tryCreate(c.o...)
			if err == nil || !strings.Contains(err.Error(), c.want) || moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%v, want %s", err, c.want)
			}
		}
		r.check()
	})
}

// An image's labels are not the user's: they get it nothing.
func TestSecretsAreNotForImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		r.makeSecret(moss.KindSecret, "db", "geheim")
		greedy := moss.Image{ID: "sha256:" + moss.ImageID(moss.NewHexID()), Names: []string{"docker.io/library/greedy:latest"}, Config: moss.ContainerConfig{Labels: map[string]string{"moss.secret.db": ""}}}
		r.images.Add(greedy)
		id := r.create(func(q *moss.CreateRequest) { q.Config.Image = "greedy" })
		if rec := r.get(id); len(rec.Host.Secrets) != 0 || !maps.Equal(rec.Config.Labels, greedy.Config.Labels) {
			t.Errorf("%+v", rec)
		}
	})
}

func TestSecretFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		for name, label := range map[string]string{"aa": "x", "ab": "x", "b": "y"} {
			_, err := r.SecretService().Create(t.Context(), moss.SecretRequest{Kind: moss.KindSecret, Name: name, Labels: map[string]string{"l": label}, Data: []byte("d")})
			r.must(err)
		}
		b, err := r.SecretService().Get(moss.KindSecret, "b")
		r.must(err)
		for want, f := range map[string]moss.SecretFilter{
			"aa ab b": {}, "aa ab": {Prefixes: []string{"a"}}, "ab": {Names: []string{"a", "ab"}},
			"b": {IDs: []string{string(b.ID[:10])}}, "aa": {Names: []string{"aa", "b"}, Labels: []string{"l=x"}},
		} {
			f.Kind = moss.KindSecret
			var names []string
			for _, s := range r.SecretService().List(f) {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%+v: %s, want %s", f, got, want)
			}
		}
		if _, err := r.SecretService().Data(t.Context(), b.ID); err == nil || moss.ClassOf(err) != moss.NotFound {
			t.Errorf("a secret was read: %v", err)
		}
		r.must(r.SecretService().Relabel(t.Context(), moss.KindSecret, "b", 1, map[string]string{"n": ""}))
		if b, err = r.SecretService().Get(moss.KindSecret, "b"); err != nil || b.Version != 2 || len(b.Labels) != 1 {
			t.Errorf("%+v %v", b, err)
		}
	})
}
