package records

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

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

func TestNewestRecordWinsAndVolatileOnesDieWithTheBoot(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	put := func(name string, durable bool) {
		t.Helper()
		if err := s.Put(&moss.Container{ID: "a", Name: name}, durable); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want string) {
		t.Helper()
		if got := names(t, s); got != want {
			t.Fatalf("records %q, want %q", got, want)
		}
	}
	put("first", true)
	put("second", false)
	check("second")
	put("third", true)
	check("third")
	put("fourth", false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir)
	check("fourth")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "r")); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, dir)
	check("third")
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("a"); err != nil {
		t.Fatal("deleting what is gone:", err)
	}
	check("")
	_ = s.Close()
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
		_, err := Open(filepath.Join(dir, "d", "moss.db"), filepath.Join(dir, "r", "run.db"))
		if moss.ClassOf(err) != moss.Unavailable {
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
