package porttest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// SecretStore is all that the engine needs of secrets.
type SecretStore interface {
	engine.Secrets
	engine.SecretFiles
}

// Secrets runs the contract suites of [engine.Secrets] and [engine.SecretFiles]
// on empty stores.
func Secrets(t *testing.T, open func(t *testing.T) SecretStore) {
	t.Run("life", func(t *testing.T) { secretLife(t, open(t)) })
	t.Run("files", func(t *testing.T) { secretFiles(t, open(t)) })
}

func class(t *testing.T, what string, err error, want moss.Class) {
	t.Helper()
	if err == nil || moss.ClassOf(err) != want {
		t.Errorf("%s: %v, want class %v", what, err, want)
	}
}

func secretLife(t *testing.T, s SecretStore) {
	ctx := t.Context()
	db, err := s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Name: "db", Labels: map[string]string{"k": "v"}, Data: []byte{0, 'x', 0xff}})
	if err != nil || len(db.ID) != 25 || db.Kind != moss.KindSecret || db.Name != "db" || db.Labels["k"] != "v" || db.Version != 1 || db.Created.IsZero() || db.Updated.IsZero() {
		t.Fatalf("%+v %v", db, err)
	}
	_, err = s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Name: "db", Data: []byte("y")})
	class(t, "a name in use", err, moss.Conflict)
	conf, err := s.Create(ctx, moss.SecretRequest{Kind: moss.KindConfig, Name: "db", Data: []byte("conf")})
	if err != nil {
		t.Fatal("a config with a secret's name:", err)
	}
	a, err := s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Name: "a", Data: []byte("y")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Data: []byte("y")})
	class(t, "no name", err, moss.Invalid)
	_, err = s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Name: "n"})
	class(t, "no data", err, moss.Invalid)
	ids := func(kind moss.SecretKind) (ids []moss.SecretID) {
		for _, one := range s.List(kind) {
			ids = append(ids, one.ID)
		}
		return ids
	}
	if got := ids(moss.KindSecret); !slices.Equal(got, []moss.SecretID{a.ID, db.ID}) {
		t.Errorf("secrets: %v", got)
	}
	if got := ids(moss.KindConfig); !slices.Equal(got, []moss.SecretID{conf.ID}) {
		t.Errorf("configs: %v", got)
	}
	if data, err := s.Data(ctx, db.ID); err != nil || !bytes.Equal(data, []byte{0, 'x', 0xff}) {
		t.Errorf("data: %q %v", data, err)
	}
	now, err := s.Relabel(ctx, db.ID, 1, map[string]string{"n": "w"})
	if err != nil || now.Version != 2 || len(now.Labels) != 1 || now.Labels["n"] != "w" || now.ID != db.ID {
		t.Errorf("relabelled: %+v %v", now, err)
	}
	_, err = s.Relabel(ctx, db.ID, 1, nil)
	class(t, "an old version", err, moss.Invalid)
	if data, err := s.Data(ctx, db.ID); err != nil || !bytes.Equal(data, []byte{0, 'x', 0xff}) {
		t.Errorf("data after new labels: %q %v", data, err)
	}
	if err := s.Remove(ctx, db.ID); err != nil {
		t.Error(err)
	}
	class(t, "remove again", s.Remove(ctx, db.ID), moss.NotFound)
	_, err = s.Data(ctx, db.ID)
	class(t, "data of none", err, moss.NotFound)
	_, err = s.Relabel(ctx, db.ID, 2, nil)
	class(t, "relabel none", err, moss.NotFound)
	if got := ids(moss.KindSecret); !slices.Equal(got, []moss.SecretID{a.ID}) {
		t.Errorf("what is left: %v", got)
	}
}

func secretFiles(t *testing.T, s SecretStore) {
	ctx := t.Context()
	const id = moss.ContainerID("c0ffee")
	one, err := s.Create(ctx, moss.SecretRequest{Kind: moss.KindSecret, Name: "one", Data: []byte("first")})
	if err != nil {
		t.Fatal(err)
	}
	uses := []moss.SecretUse{{Kind: moss.KindSecret, ID: one.ID, Name: "one", Target: "/run/secrets/one", Mode: 0o444}, {Kind: moss.KindSecret, ID: one.ID, Name: "one", Target: "/x", Mode: 0o400}}
	if err := s.Withdraw(ctx, id); err != nil {
		t.Error("withdraw nothing:", err)
	}
	for range 2 { // a start after a start that was cut short
		points, err := s.Place(ctx, id, uses)
		if err != nil || len(points) != 2 {
			t.Fatalf("%+v %v", points, err)
		}
		for i, p := range points {
			data, err := os.ReadFile(p.Source)
			info, statErr := os.Stat(p.Source)
			if err != nil || statErr != nil || string(data) != "first" || info.Mode() != fs.FileMode(uses[i].Mode) {
				t.Errorf("%s: %q %v %v %v", p.Source, data, info, err, statErr)
			}
			if p.Type != moss.MountBind || !p.ReadOnly || p.Target != uses[i].Target || p.CreateSource {
				t.Errorf("%+v", p)
			}
		}
		if i := points[0].Source; i == points[1].Source {
			t.Error("two files at one place:", i)
		}
	}
	points, err := s.Place(ctx, "decaf", uses[:1])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Withdraw(ctx, id); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(points[0].Source); err != nil {
		t.Error("another container's:", err)
	}
	if err := s.Withdraw(ctx, "decaf"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(points[0].Source); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is there still:", err)
	}
	if _, err := s.Place(ctx, id, []moss.SecretUse{{ID: "nosuch", Target: "/x"}}); err == nil {
		t.Error("a secret that there is not was placed")
	}
}
