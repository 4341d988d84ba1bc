package records

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// fill makes records of containers, some of them changed and deleted again, and
// of a network; it tells what there is then.
func fill(t *testing.T, s *Store, n int) (want map[string]string, engine string) {
	t.Helper()
	engine, err := s.EngineID()
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]string{}
	for i := range n {
		id := fmt.Sprintf("%064x", i*7919)
		for _, name := range []string{"first", fmt.Sprintf("name%d", i)} {
			c := &moss.Container{ID: moss.ContainerID(id), Name: name, Config: moss.ContainerConfig{Labels: map[string]string{"long": strings.Repeat("x", 10*i)}}}
			if err := s.Put(c, true); err != nil {
				t.Fatal(err)
			}
		}
		if i%5 == 4 {
			if err := s.Delete(moss.ContainerID(id)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want[id] = fmt.Sprintf("name%d", i)
	}
	if err := s.PutNetwork(moss.Network{ID: "net", Name: "net"}); err != nil {
		t.Fatal(err)
	}
	return want, engine
}

// has checks that a store has what fill told.
func has(t *testing.T, s *Store, want map[string]string, engine string) {
	t.Helper()
	all, bad, err := s.Load()
	if err != nil || len(bad) > 0 {
		t.Fatalf("bad %v, %v", bad, err)
	}
	got := map[string]string{}
	for _, c := range all {
		got[string(c.ID)] = c.Name
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d containers, want %d: %v", len(got), len(want), got)
	}
	if id, err := s.EngineID(); id != engine || err != nil {
		t.Errorf("engine %s, want %s; %v", id, engine, err)
	}
	nets, _, err := s.LoadNetworks()
	if err != nil || len(nets) != 1 || nets[0].Name != "net" {
		t.Errorf("networks %v, %v", nets, err)
	}
}

func paths(dir string) (durable, volatile string) {
	return filepath.Join(dir, "d", "moss.db"), filepath.Join(dir, "r", "run.db")
}

// asides are the damaged files that were kept.
func asides(t *testing.T, db string) []string {
	t.Helper()
	list, err := filepath.Glob(db + ".damaged-*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDamageIsMended(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"gone":       nil,
		"empty":      func([]byte) []byte { return []byte{} },
		"short":      func([]byte) []byte { return []byte("x") },
		"garbage":    func(b []byte) []byte { return []byte(strings.Repeat("no database ", len(b)/12)) },
		"four pages": func(b []byte) []byte { return b[:4*os.Getpagesize()] },
		"two pages":  func(b []byte) []byte { return b[:2*os.Getpagesize()] },
		"zeros":      func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b },
		"no meta":    func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b },
	}
	for name, spoil := range damage {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %v", name, killed), func(t *testing.T) {
				dir := t.TempDir()
				db, _ := paths(dir)
				s := openAt(t, dir)
				want, engine := fill(t, s, 15)
				whole := s.Close
				if killed { // nothing is said at the end
					whole = func() error { return joined(s.durable.Close(), s.volatile.Close()) }
				}
				if err := whole(); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(db)
				if err != nil {
					t.Fatal(err)
				}
				if spoil == nil {
					err = os.Remove(db)
				} else {
					err = os.WriteFile(db, spoil(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				s = openAt(t, dir)
				has(t, s, want, engine)
				if !strings.Contains(s.Recovered(), "12 containers") {
					t.Errorf("told: %q", s.Recovered())
				}
				if n := len(asides(t, db)); n != 1 && name != "gone" {
					t.Errorf("%d damaged files are kept", n)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openAt(t, dir)
				defer s.Close()
				has(t, s, want, engine)
				if s.Recovered() != "" {
					t.Errorf("recovered again: %s", s.Recovered())
				}
			})
		}
	}
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Whatever happens to some bytes or to the end of the file: no crash, and what
// was there is there, or its loss is told.
func TestRandomDamage(t *testing.T) {
	dir := t.TempDir()
	db, _ := paths(dir)
	s := openAt(t, dir)
	want, engine := fill(t, s, 60)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(db + ".journal")
	if err != nil {
		t.Fatal(err)
	}
	mended := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := slices.Clone(good)
		page := os.Getpagesize()
		at := r.IntN(len(b)/page) * page
		switch r.IntN(3) {
		case 0:
			b = b[:at]
		case 1:
			clear(b[at : at+page])
		case 2:
			for i := range b[at : at+page] {
				b[at+i] = byte(r.Uint32())
			}
		}
		if err := joined(os.WriteFile(db, b, 0o600), os.WriteFile(db+".journal", journal, 0o600)); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, dir)
		has(t, s, want, engine)
		if s.Recovered() != "" {
			mended++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, f := range asides(t, db) {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if mended < 10 {
		t.Errorf("%d of 60 files were damaged", mended)
	}
}

// A record that is broken in a database which else can be read is mended of the
// journal, also after a kill, when the journal is written anew first.
func TestBrokenRecordAfterAKill(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	s := openAt(t, dir)
	want, engine := fill(t, s, 10)
	db, _ := paths(dir)
	there, volatile := paths(killed)
	if err := joined(os.MkdirAll(filepath.Dir(there), 0o700), os.MkdirAll(filepath.Dir(volatile), 0o700)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(db)
	journal, journalErr := os.ReadFile(db + ".journal")
	if err := joined(err, journalErr, s.Close()); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%064x", 3*7919)
	bad := bytes.ReplaceAll(good, []byte(`{"ID":"`+id), []byte(`{"ID"!"`+id))
	if bytes.Equal(bad, good) {
		t.Fatal("the record is not in the file")
	}
	if err := joined(os.WriteFile(there, bad, 0o600), os.WriteFile(there+".journal", journal, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it stays mended
		s = openAt(t, killed)
		has(t, s, want, engine)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Without a journal, as with one that says nothing, a damaged file is refused with the mend.
func TestDamageWithoutJournal(t *testing.T) {
	for name, journal := range map[string]string{"none": "", "of nothing": "{\"b\":\"conta\n\n{"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, volatile := paths(dir)
			if err := openAt(t, dir).Close(); err != nil {
				t.Fatal(err)
			}
			err := joined(os.Truncate(db, 9000), os.Remove(db+".journal"))
			if err == nil && journal != "" {
				err = os.WriteFile(db+".journal", []byte(journal), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // it stays as it is
				_, err = Open(db, volatile)
				if moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), "move it away") {
					t.Fatal(err)
				}
			}
		})
	}
}

// The database is right as long as it can be read: a journal that missed
// something is written anew.
func TestJournalFollows(t *testing.T) {
	dir := t.TempDir()
	db, _ := paths(dir)
	s := openAt(t, dir)
	want, engine := fill(t, s, 20)
	// Killed after the database had it and before the journal.
	for _, spoil := range []func() error{
		func() error { return os.Truncate(db+".journal", 300) },
		func() error { return os.Remove(db + ".journal") },
		func() error { return os.WriteFile(db+".journal", []byte(`{"closed":99999}`+"\n"), 0o600) },
		func() error { return nil },
	} {
		if err := joined(s.durable.Close(), s.volatile.Close(), spoil()); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, dir)
		has(t, s, want, engine)
		all, _, err := readJournal(db + ".journal")
		if err != nil || len(all[string(bucketContainers)]) != len(want) {
			t.Fatalf("the journal has %d containers, %v", len(all[string(bucketContainers)]), err)
		}
	}
	// What was changed often does not make it grow for ever.
	for i := range 400 {
		c := &moss.Container{ID: "often", Name: fmt.Sprint(i), Config: moss.ContainerConfig{Labels: map[string]string{"long": strings.Repeat("x", 10_000)}}}
		if err := s.Put(c, true); err != nil {
			t.Fatal(err)
		}
	}
	s.journal.rewriting.Wait() // it is done behind, and what came meanwhile is for the next time
	if err := s.Put(&moss.Container{ID: "often", Name: "last"}, true); err != nil {
		t.Fatal(err)
	}
	s.journal.rewriting.Wait()
	if st, err := os.Stat(db + ".journal"); err != nil || st.Size() > 3<<20 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all, closed, err := readJournal(db + ".journal")
	if err != nil || closed == 0 || lastClosed(db+".journal") != closed || len(all[string(bucketContainers)]) != len(want)+1 {
		t.Errorf("closed %d, containers %d, %v", closed, len(all[string(bucketContainers)]), err)
	}
}

// What changes while the journal is written anew is in the new one.
func TestJournalAnewBesideChanges(t *testing.T) {
	dir := t.TempDir()
	db, _ := paths(dir)
	s := openAt(t, dir)
	want, engine := fill(t, s, 10)
	for round := range 40 {
		var anew sync.WaitGroup
		anew.Go(func() {
			if err := s.journal.writeAnew(s.durable); err != nil {
				t.Error(err)
			}
		})
		for i := range 3 {
			id := fmt.Sprintf("%d-%d", round, i)
			if err := s.Put(&moss.Container{ID: moss.ContainerID(id), Name: id}, true); err != nil {
				t.Error(err)
			}
			want[id] = id
		}
		anew.Wait()
		all, _, err := readJournal(db + ".journal")
		if err != nil || len(all[string(bucketContainers)]) != len(want) {
			t.Fatalf("round %d: the journal has %d containers of %d, %v", round, len(all[string(bucketContainers)]), len(want), err)
		}
	}
	if err := joined(s.durable.Close(), s.volatile.Close(), os.Remove(db)); err != nil { // killed, and the database is lost
		t.Fatal(err)
	}
	s = openAt(t, dir)
	defer s.Close()
	has(t, s, want, engine)
	if s.Recovered() == "" {
		t.Error("it was not made of the journal")
	}
}

// A full disk, or one that cannot be written, is no damage.
func TestWhatIsNoDamage(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everything")
	}
	dir := t.TempDir()
	db, volatile := paths(dir)
	if err := joined(openAt(t, dir).Close(), os.Chmod(db, 0o400)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(db, volatile); err == nil || strings.Contains(err.Error(), "damaged") || len(asides(t, db)) != 0 {
		t.Fatal(err)
	}
}
