package records

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func openAt(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(filepath.Join(dir, "d", "moss.db"), filepath.Join(dir, "r", "run.db"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(t *testing.T, s *Store) string {
	t.Helper()
	all, _, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range all {
		out = append(out, c.Name)
	}
	return strings.Join(out, " ")
}

// rig is a machine with the records on it.
type rig struct {
	dir   string
	store *Store
}

func (r *rig) Records() engine.Records { return r.store }

func (r *rig) Restart(t *testing.T) {
	t.Helper()
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.store = openAt(t, r.dir)
}

func (r *rig) Reboot(t *testing.T) {
	t.Helper()
	if err := errors.Join(r.store.Close(), os.RemoveAll(filepath.Join(r.dir, "r"))); err != nil {
		t.Fatal(err)
	}
	r.store = openAt(t, r.dir)
}

func (r *rig) Break(t *testing.T, id moss.ContainerID) {
	t.Helper()
	torn := []byte(`{"ID":"torn","Na`)
	err := r.store.durable.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketContainers).Put([]byte(id), torn) })
	if err != nil {
		t.Fatal(err)
	}
	r.store.journal.note(r.store.durable, bucketContainers, string(id), torn) // it would be mended from there
}

func TestContract(t *testing.T) {
	porttest.Records(t, func(t *testing.T) porttest.RecordsRig {
		dir := t.TempDir()
		r := &rig{dir: dir, store: openAt(t, dir)}
		t.Cleanup(func() { _ = r.store.Close() })
		return r
	})
}

func TestABrokenRecordDoesNotHideTheOthers(t *testing.T) {
	s := openAt(t, t.TempDir())
	defer s.Close()
	if err := s.Put(&moss.Container{ID: "good", Name: "good"}, true); err != nil {
		t.Fatal(err)
	}
	err := s.durable.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketContainers)
		if err := b.Put([]byte("torn"), []byte(`{"ID":"torn","Na`)); err != nil {
			return err
		}
		return b.Put([]byte("swapped"), []byte(`{"ID":"other"}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	all, bad, err := s.Load()
	if err != nil || len(all) != 1 || len(bad) != 2 || bad["torn"] == nil || bad["swapped"] == nil {
		t.Fatalf("all %v bad %v err %v", all, bad, err)
	}
}

func TestDamagedFiles(t *testing.T) {
	for name, content := range map[string]string{"garbage": strings.Repeat("no database ", 2000), "short": "x"} {
		dir := t.TempDir()
		if err := openAt(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "r", "run.db"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openAt(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "d", "moss.db"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, dir)
		if err := s.Close(); err != nil || s.Recovered() == "" {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestEngineIDStays(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	first, err := s.EngineID()
	if err != nil || len(first) != 64 {
		t.Fatal(first, err)
	}
	_ = s.Close()
	s = openAt(t, dir)
	defer s.Close()
	if again, err := s.EngineID(); err != nil || again != first {
		t.Fatalf("%s then %s, %v", first, again, err)
	}
}

func (r *rig) NetworkRecords() engine.NetworkRecords { return r.store }

func TestNetworksContract(t *testing.T) {
	porttest.NetworkRecords(t, func(t *testing.T) porttest.NetworkRecordsRig {
		dir := t.TempDir()
		r := &rig{dir: dir, store: openAt(t, dir)}
		t.Cleanup(func() { _ = r.store.Close() })
		return r
	})
}
