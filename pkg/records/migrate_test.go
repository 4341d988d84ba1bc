package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/moss-containers/moss/pkg/moss"
)

// each rewrites every record.
func each(tx *bbolt.Tx, fn func(map[string]any)) error {
	b := tx.Bucket(bucketContainers)
	changed := map[string][]byte{}
	err := b.ForEach(func(k, v []byte) error {
		var m map[string]any
		if err := json.Unmarshal(v, &m); err != nil {
			return err
		}
		fn(m)
		out, err := json.Marshal(m)
		changed[string(k)] = out
		return err
	})
	for k, v := range changed {
		err = errors.Join(err, b.Put([]byte(k), v))
	}
	return err
}

// madeUp is a layout 3 before which the name was called Nom, and upper case.
func madeUp() layout {
	return layout{number: 3, from: map[int]func(*bbolt.Tx) error{
		1: func(tx *bbolt.Tx) error {
			return each(tx, func(m map[string]any) { m["Name"] = m["Nom"]; delete(m, "Nom") })
		},
		2: func(tx *bbolt.Tx) error {
			return each(tx, func(m map[string]any) { m["Name"] = strings.ToLower(m["Name"].(string)) })
		},
	}}
}

// old makes databases of schema 1 with records, one of them in both.
func old(t *testing.T, dir string) {
	t.Helper()
	for name, nom := range map[string]string{"d/moss.db": "FIRST", "r/run.db": "SECOND"} {
		db, err := open(filepath.Join(dir, name), false, layout{number: 1})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			for i := range 50 {
				id := fmt.Sprintf("id%d", i)
				if i > 0 && nom == "SECOND" {
					break
				}
				if err := tx.Bucket(bucketContainers).Put([]byte(id), fmt.Appendf(nil, `{"ID":%q,"Nom":%q}`, id, nom)); err != nil {
					return err
				}
			}
			return tx.Bucket(bucketMeta).Put(keyEngineID, []byte("engine"))
		})
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func openMadeUp(dir string, l layout) (*Store, error) {
	return openLayout(filepath.Join(dir, "d/moss.db"), filepath.Join(dir, "r/run.db"), l)
}

func wantMoved(t *testing.T, dir string) {
	t.Helper()
	for range 2 { // the second time there is nothing to do
		s, err := openMadeUp(dir, madeUp())
		if err != nil {
			t.Fatal(err)
		}
		got := names(t, s)
		if strings.Count(got, "first") != 49 || strings.Count(got, "second") != 1 {
			t.Errorf("records %q", got)
		}
		if id, err := s.EngineID(); id != "engine" || err != nil {
			t.Errorf("engine %q, %v", id, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The copy is what the older moss can use.
	db, err := open(filepath.Join(dir, "d/moss.db.schema-1"), false, layout{number: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		if v := string(tx.Bucket(bucketContainers).Get([]byte("id7"))); !strings.Contains(v, `"Nom":"FIRST"`) {
			return fmt.Errorf("the copy has %q", v)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMigration(t *testing.T) {
	dir := t.TempDir()
	old(t, dir)
	wantMoved(t, dir)
}

func TestMigrationThatFails(t *testing.T) {
	dir := t.TempDir()
	old(t, dir)
	l := madeUp()
	l.from[2] = func(*bbolt.Tx) error { return errors.New("no way") }
	for range 2 {
		_, err := openMadeUp(dir, l)
		if moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), "from schema 2 to 3: no way") {
			t.Fatal(err)
		}
	}
	delete(l.from, 2)
	if _, err := openMadeUp(dir, l); err == nil || !strings.Contains(err.Error(), "no way to 3") {
		t.Fatal(err)
	}
	wantMoved(t, dir)
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	old(t, dir)
	wantMoved(t, dir)
	before, err := os.ReadFile(filepath.Join(dir, "d/moss.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = openMadeUp(dir, layout{number: 1})
	if moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), "schema 3 and this moss knows 1") {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "d/moss.db"))
	if err != nil || string(before) != string(after) {
		t.Errorf("the file was changed (%v)", err)
	}
	wantMoved(t, dir)
}

// TestMigrationIsKilled kills a process at each point of the move.
func TestMigrationIsKilled(t *testing.T) {
	const env = "_MOSS_MIGRATION_DIR"
	if dir := os.Getenv(env); dir != "" {
		l := madeUp()
		at := os.Getenv(env + "_AT")
		for n, step := range l.from {
			l.from[n] = func(tx *bbolt.Tx) error {
				if at == fmt.Sprint(n) {
					kill()
				}
				return step(tx)
			}
		}
		if _, err := openMadeUp(dir, l); err != nil {
			t.Fatal(err)
		}
		if at == "end" {
			kill()
		}
		t.Fatal("it was not killed")
	}
	for _, at := range []string{"1", "2", "end"} {
		dir := t.TempDir()
		old(t, dir)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestMigrationIsKilled$")
		cmd.Env = append(os.Environ(), env+"="+dir, env+"_AT="+at)
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("%s: %v: %s", at, err, out)
		}
		wantMoved(t, dir)
	}
}

func kill() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}
