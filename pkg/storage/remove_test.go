package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

func fill(t *testing.T, root string, dirs, files int) {
	t.Helper()
	for d := range dirs {
		dir := filepath.Join(root, fmt.Sprint("d", d))
		must(t, os.MkdirAll(dir, 0o700))
		for f := range files {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), []byte("12345"), 0o600))
		}
	}
}

func wantEmptyScrap(t *testing.T, s *Storage) {
	t.Helper()
	must(t, s.scrap.wait(t.Context()))
	if left, err := os.ReadDir(s.scrap.dir); len(left) != 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// Removing does not wait for the files to be deleted, and they are.
func TestRemoveAnswersBeforeItIsDone(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := open(t, t.TempDir(), driver)
		im := image(t, s, hello)
		id := moss.ContainerID(moss.NewHexID())
		must(t, s.CreateVolatile(t.Context(), id, im))
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		fill(t, m.Path, 10, 100)
		start := time.Now()
		must(t, s.Remove(t.Context(), id))
		t.Logf("Remove took %v", time.Since(start))
		start = time.Now()
		wantEmptyScrap(t, s)
		t.Logf("deleting took %v more", time.Since(start))
		// A process that ends in the middle leaves the rest to the next.
		id = moss.ContainerID(moss.NewHexID())
		must(t, s.CreateVolatile(t.Context(), id, im))
		m, err = s.Mount(t.Context(), id)
		must(t, err)
		fill(t, m.Path, 10, 100)
		must(t, s.Remove(t.Context(), id))
		must(t, s.Close())
		s = open(t, filepath.Dir(s.store.GraphRoot()), "")
		wantEmptyScrap(t, s)
	})
}

// A container can be removed from a disk on which no byte is free.
func TestRemoveOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("small", dir, "tmpfs", 0, "size=2m"))
	defer func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	s := open(t, dir, driverOverlay)
	id, root := container(t, s, image(t, s, hello))
	f, err := os.Create(filepath.Join(root, "big"))
	must(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	must(t, f.Close())
	if other := os.WriteFile(filepath.Join(dir, "x"), block, 0o600); other == nil {
		t.Fatal("the disk is not full")
	}
	must(t, os.Remove(filepath.Join(dir, "x")))
	must(t, s.Remove(t.Context(), id))
	must(t, os.WriteFile(filepath.Join(dir, "x"), block, 0o600))
	// The store works on.
	container(t, s, image(t, s, hello))
}

// A container whose files cannot be moved stays, the store opens again, and the
// container can be removed once what held them is gone.
func TestRemoveWhatCannotBeMoved(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		top := t.TempDir()
		s := open(t, top, driver)
		id, _ := container(t, s, image(t, s, hello))
		must(t, s.Unmount(t.Context(), id))
		c, err := s.store.Container(string(id))
		must(t, err)
		layer := filepath.Join(s.store.GraphRoot(), driverOverlay, c.LayerID)
		held := []string{layer, filepath.Join(layer, "diff")}
		if driver == driverVFS {
			layer = filepath.Join(s.store.GraphRoot(), driverVFS, "dir", c.LayerID)
			held = []string{layer}
		}
		for _, dir := range held {
			must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
			err := s.Remove(t.Context(), id)
			must(t, s.Close())
			s = open(t, top, "")
			ids, listErr := s.List(t.Context())
			must(t, unix.Unmount(dir, unix.MNT_DETACH))
			if !errors.Is(err, unix.EBUSY) || len(ids) != 1 || listErr != nil {
				t.Fatalf("removed: %v; there are %v, %v", err, ids, listErr)
			}
		}
		must(t, s.Remove(t.Context(), id))
		if _, err := os.Lstat(layer); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the layer is there: %v", err)
		}
		wantEmptyScrap(t, s)
	})
}
