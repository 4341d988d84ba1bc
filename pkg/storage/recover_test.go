package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cstorage "github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

// named puts an image into the store as pkg/image does: ids are digests.
func named(t *testing.T, s *Storage, name string, layers ...[]porttest.File) moss.ImageID {
	t.Helper()
	var cfg imgspec.Image
	top := ""
	for _, files := range layers {
		b := porttest.Tar(t, files...)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(b))
		id := identity.ChainID(cfg.RootFS.DiffIDs).Encoded()
		if !s.store.Exists(id) {
			_, _, err := s.store.PutLayer(id, top, nil, "", false, nil, bytes.NewReader(b))
			must(t, err)
		}
		top = id
	}
	cfg.RootFS.Type = "layers"
	b, err := json.Marshal(cfg)
	must(t, err)
	id := digest.FromBytes(b)
	_, err = s.store.CreateImage(id.Encoded(), []string{name}, top, "", &cstorage.ImageOptions{
		BigData: []cstorage.ImageBigDataOption{{Key: id.String(), Data: b}},
	})
	must(t, err)
	return moss.ImageID(id)
}

func text(name, content string) []porttest.File {
	return []porttest.File{{Name: name, Text: content}, {Name: "all", Text: content}}
}

// populated is a store with images and containers of all kinds.
type populated struct {
	dir        string
	images     map[string]moss.ImageID
	containers map[moss.ContainerID]string // what their file says
}

func populate(t *testing.T, driver string) populated {
	t.Helper()
	p := populated{dir: t.TempDir(), images: map[string]moss.ImageID{}, containers: map[moss.ContainerID]string{}}
	s := open(t, p.dir, driver)
	p.images["first"] = named(t, s, "first", text("a", "a"), text("b", "b"))
	add := func(image string, volatile bool) moss.ContainerID {
		id := moss.ContainerID(moss.NewHexID())
		must(t, s.create(t.Context(), id, p.images[image], nil, volatile))
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		p.containers[id] = string(id)
		must(t, os.WriteFile(filepath.Join(m.Path, "mine"), []byte(id), 0o600))
		return id
	}
	must(t, s.Unmount(t.Context(), add("first", false)))
	must(t, s.Close())
	// All later things are in no copy.
	s = open(t, p.dir, "")
	p.images["second"] = named(t, s, "second", text("a", "a"), text("c", "c"), text("d", "d"))
	add("second", false)
	add("first", true)
	must(t, s.Unmount(t.Context(), add("first", false)))
	s.store.Free() // as if it was killed: no copy is made
	s.scrap.close()
	return p
}

// whole checks that nothing is lost, but for names that were in no copy.
func (p populated) whole(t *testing.T, s *Storage) {
	t.Helper()
	ids, err := s.List(t.Context())
	must(t, err)
	if len(ids) != len(p.containers) {
		t.Errorf("%d containers of %d are there", len(ids), len(p.containers))
	}
	for id, want := range p.containers {
		m, err := s.Mount(t.Context(), id)
		if err != nil {
			t.Error(err)
			continue
		}
		if b, err := os.ReadFile(filepath.Join(m.Path, "mine")); string(b) != want {
			t.Errorf("%.12s has %q, %v", id, b, err)
		}
		if b, err := os.ReadFile(filepath.Join(m.Path, "a")); string(b) != "a" {
			t.Errorf("%.12s has %q of the image, %v", id, b, err)
		}
		must(t, s.Unmount(t.Context(), id))
	}
	wantNoMounts(t, s.store.GraphRoot())
	for name, id := range p.images {
		im, err := s.store.Image(strings.TrimPrefix(string(id), "sha256:"))
		if err != nil {
			t.Errorf("image %s: %v", name, err)
			continue
		}
		if name == "first" && (len(im.Names) != 1 || im.Names[0] != name) {
			t.Errorf("image %s has the names %q", name, im.Names)
		}
		c := moss.ContainerID(moss.NewHexID())
		must(t, s.Create(t.Context(), c, id))
		must(t, s.Remove(t.Context(), c))
		b, err := s.store.ImageBigData(im.ID, string(id))
		if err != nil || digest.FromBytes(b).String() != string(id) {
			t.Errorf("image %s has not its configuration: %v", name, err)
		}
	}
	found, err := s.check(t.Context(), time.Time{}.Add(1))
	if err != nil || len(found) != 0 {
		t.Errorf("a check finds %q, %v", found, err)
	}
}

// Every list can be damaged in every way.
func TestDamagedLists(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		damages := map[string]func(name string) error{
			"empty":     func(name string) error { return os.Truncate(name, 0) },
			"garbage":   func(name string) error { return os.WriteFile(name, []byte("\x00\x00\x00garbage"), 0o600) },
			"truncated": func(name string) error { return os.Truncate(name, 40) },
			"gone":      os.Remove,
			"other":     func(name string) error { return os.WriteFile(name, []byte(`{"id":1}`), 0o600) },
		}
		if driver == fuseOverlayfs {
			t.Skip("its lists are those of overlay")
		}
		p := populate(t, driver)
		l := lists{root: filepath.Join(p.dir, "graph"), run: filepath.Join(p.dir, "run"), driver: storeName(driver)}
		files := append(l.all(), filepath.Join(l.run, l.driver+"-layers/mountpoints.json"))
		saved := map[string][]byte{}
		for _, f := range files {
			for _, n := range []string{f, f + goodSuffix} {
				if b, err := os.ReadFile(n); err == nil {
					saved[n] = b
				}
			}
		}
		for _, file := range files {
			for how, damage := range damages {
				if how == "gone" && saved[file+goodSuffix] == nil || driver == driverVFS && how != "empty" {
					continue
				}
				t.Run(filepath.Base(file)+" "+how, func(t *testing.T) {
					for n, b := range saved {
						must(t, os.WriteFile(n, b, 0o600))
					}
					must(t, damage(file))
					s := open(t, p.dir, "")
					if i := s.Info(); !strings.Contains(fmt.Sprint(i.Status), "was damaged") {
						t.Errorf("Info is %v", i.Status)
					}
					p.whole(t, s)
					must(t, s.Close())
					s = open(t, p.dir, "")
					if i := s.Info(); !strings.Contains(fmt.Sprint(i.Status), "no damage") {
						t.Errorf("then Info is %v", i.Status)
					}
					p.whole(t, s)
					must(t, s.Close())
				})
			}
		}
		if driver == driverVFS {
			return // a directory of vfs does not tell whose it is: without any list only what the copies name comes back
		}
		// All at once.
		for n, b := range saved {
			must(t, os.WriteFile(n, b, 0o600))
		}
		for _, file := range files {
			must(t, os.WriteFile(file, nil, 0o600))
		}
		s := open(t, p.dir, "")
		p.whole(t, s)
	})
}

func storeName(driver string) string {
	if driver == driverVFS {
		return driver
	}
	return driverOverlay
}

func otherBoot(t *testing.T, s *Storage) {
	t.Helper()
	must(t, os.WriteFile(s.unsynced.name, []byte("another boot\n"), 0o600))
}

func (s *Storage) reopen(t *testing.T) *Storage {
	t.Helper()
	dir := filepath.Dir(s.store.GraphRoot())
	must(t, s.Close())
	return open(t, dir, "")
}

func TestLostLayers(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	free := named(t, s, "free", text("base", "base"), text("free", "x"))
	used := named(t, s, "used", text("base", "base"), text("used", "x"))
	id, _ := container(t, s, used)
	must(t, s.Unmount(t.Context(), id))
	for _, im := range []moss.ImageID{free, used} {
		i, err := s.store.Image(strings.TrimPrefix(string(im), "sha256:"))
		must(t, err)
		must(t, os.RemoveAll(filepath.Join(s.store.GraphRoot(), "overlay", i.TopLayer)))
	}
	s = s.reopen(t)
	status := fmt.Sprint(s.Info().Status)
	for _, want := range []string{"image free is damaged and is removed", "image used is damaged and stays", fmt.Sprintf("container %.12s is damaged", id)} {
		if !strings.Contains(status, want) {
			t.Errorf("Info lacks %q: %s", want, status)
		}
	}
	named(t, s, "free", text("base", "base"), text("free", "x")) // as a pull does
	must(t, s.Remove(t.Context(), id))
	s = s.reopen(t)
	s = s.reopen(t)
	if status := fmt.Sprint(s.Info().Status); !strings.Contains(status, "no damage") {
		t.Errorf("at last Info is %s", status)
	}
}

func TestLostLinks(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	id, _ := container(t, s, named(t, s, "x", text("a", "a"), text("b", "b")))
	must(t, s.Unmount(t.Context(), id))
	must(t, os.RemoveAll(filepath.Join(s.store.GraphRoot(), "overlay/l")))
	s = s.reopen(t)
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(m.Path, "a")); string(b) != "a" {
		t.Errorf("a is %q, %v", b, err)
	}
	must(t, s.Remove(t.Context(), id))
}

// What was made shortly before the machine stopped is looked at.
func TestUncleanStop(t *testing.T) {
	for name, damage := range map[string]func(*Storage, string) error{
		"tar-split":    func(s *Storage, layer string) error { return os.Truncate(s.tarSplit(layer), 50) },
		"no tar-split": func(s *Storage, layer string) error { return os.Truncate(s.tarSplit(layer), 0) },
		"content": func(s *Storage, layer string) error {
			return os.WriteFile(filepath.Join(s.store.GraphRoot(), "overlay", layer, "diff/all"), nil, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), driverOverlay)
			must(t, s.Changing())
			named(t, s, "good", text("a", "a"))
			bad := named(t, s, "bad", text("a", "a"), text("b", "b"))
			i, err := s.store.Image(strings.TrimPrefix(string(bad), "sha256:"))
			must(t, err)
			must(t, damage(s, i.TopLayer))
			otherBoot(t, s)
			s = s.reopen(t)
			status := fmt.Sprint(s.Info().Status)
			if !strings.Contains(status, "image bad is damaged and is removed") || strings.Contains(status, "good") {
				t.Errorf("Info is %s", status)
			}
			if _, err := s.store.Image("good"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMarkOfWhatIsNotSynced(t *testing.T) {
	s := open(t, t.TempDir(), "")
	marked := func() bool { _, err := os.Stat(s.unsynced.name); return err == nil }
	if marked() {
		t.Error("a new store is marked")
	}
	for range 3 {
		must(t, s.Changing())
		if !marked() {
			t.Error("it is not marked")
		}
	}
	s.Changed()
	s.unsynced.wg.Wait()
	if marked() {
		t.Error("it is marked after it was synced")
	}
	// A process that was killed leaves it, and the next syncs; nothing is read again.
	must(t, s.Changing())
	s = s.reopen(t)
	s.unsynced.wg.Wait()
	if marked() {
		t.Error("it is marked after the next start")
	}
	must(t, s.Changing())
}

// The clock may be set back between the mark and a layer: what is looked at
// after a loss of power must begin before that layer all the same.
func TestMarkWhenTheClockIsSetBack(t *testing.T) {
	s := open(t, t.TempDir(), "")
	must(t, s.Changing())
	ahead := time.Now().Add(time.Hour)
	must(t, os.Chtimes(s.unsynced.name, ahead, ahead)) // as if it had been an hour later then
	s.unsynced.at = ahead
	must(t, s.Changing())
	st, err := os.Stat(s.unsynced.name)
	must(t, err)
	if st.ModTime().After(time.Now()) {
		t.Errorf("marked at %v, which is still to come", st.ModTime())
	}
	s.Changed()
}
