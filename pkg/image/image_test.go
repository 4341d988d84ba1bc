package image

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	stypes "github.com/containers/storage/types"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	nstest.Main(m)
}

func rawStore(t testing.TB, dir string) storage.Store {
	t.Helper()
	raw, err := storage.GetStore(stypes.StoreOptions{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: "overlay", GraphDriverOptions: []string{"overlay.skip_mount_home=true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Free)
	return quiet(raw)
}

// quiet is changed in race_test.go.
var quiet = func(s storage.Store) storage.Store { return s }

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := New(rawStore(t, dir), Options{TempDir: filepath.Join(dir, "tmp")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.reaper.wait(context.Background()) })
	return s
}

// leftovers lists temporary files, layers without image, directories of
// layers without record, and images that List does not have.
func leftovers(t *testing.T, s *Store) (left []string) {
	t.Helper()
	must(t, s.reaper.wait(t.Context()))
	err := filepath.WalkDir(s.tmp, func(path string, _ fs.DirEntry, err error) error {
		if path != s.tmp && path != s.reaper.dir {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true})
	if err != nil {
		t.Fatal(err)
	}
	parent, used := map[string]string{}, map[string]bool{}
	for _, l := range all.Layers {
		parent[l.ID] = l.Parent
	}
	for _, im := range all.Images {
		for id := im.TopLayer; id != ""; id = parent[id] {
			used[id] = true
		}
		if _, ok := s.get(moss.ImageID("sha256:" + im.ID)); !ok {
			left = append(left, "image "+im.ID)
		}
	}
	dirs, err := os.ReadDir(filepath.Join(s.store.GraphRoot(), "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if len(d.Name()) == 64 && !used[d.Name()] {
			left = append(left, "layer "+d.Name())
		}
		if d.Name() == "tempdirs" {
			sub, _ := os.ReadDir(filepath.Join(s.store.GraphRoot(), "overlay", "tempdirs"))
			for _, e := range sub {
				left = append(left, "tempdir "+e.Name())
			}
		}
	}
	if len(used) != len(all.Layers) {
		left = append(left, "layer records")
	}
	return left
}
