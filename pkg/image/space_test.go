package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

// orphan commits a layer as a pull that was cut short leaves it.
func orphan(t *testing.T, s *Store, parent, name string) (id string, size int64) {
	t.Helper()
	g, err := s.unpacker.Stage(t.Context(), bytes.NewReader(porttest.Tar(t, porttest.File{Name: name, Text: name})), layer.Expect{})
	must(t, err)
	id, err = g.Commit(parent)
	must(t, err)
	return id, g.Info().Size
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, boxed))
	must(t, err)
	low, a := orphan(t, s, "", "low")
	high, b := orphan(t, s, low, "high")
	onImage, c := orphan(t, s, first(s.store.Image(hexOf(boxed.ID(t)))).TopLayer, "on image")
	// They are still there after a start: the next pull will want them.
	s.store.Free()
	s = open(t, dir)
	if n, _, err := s.Usage(t.Context()); err != nil || n != a+b+c {
		t.Errorf("Unused is %d, %v; want %d", n, err, a+b+c)
	}
	// What a transfer holds stays, with what is below it.
	release, err := s.hold(t.Context(), high, "of a layer that is not there yet")
	must(t, err)
	if n, _, err := s.Usage(t.Context()); err != nil || n != c {
		t.Errorf("Unused while two are held is %d, %v; want %d", n, err, c)
	}
	if n, err := s.Collect(t.Context()); err != nil || n != c {
		t.Errorf("Collect while two are held is %d, %v; want %d", n, err, c)
	}
	if s.store.Exists(onImage) || !s.store.Exists(high) || !s.store.Exists(low) {
		t.Error("Collect removed what is held, or left what is not")
	}
	release()
	release()
	if n, err := s.Collect(t.Context()); err != nil || n != a+b {
		t.Errorf("Collect is %d, %v; want %d", n, err, a+b)
	}
	if n, _, err := s.Usage(t.Context()); err != nil || n != 0 {
		t.Errorf("Unused after it is %d, %v", n, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := s.Resolve(t.Context(), "box:1"); err != nil {
		t.Error(err)
	}
}

// Copies for user namespaces stay over a start as long as their image does,
// those that an image does not know go.
func TestCopies(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes")
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, boxed3))
	must(t, err)
	id := boxed3.ID(t)
	im := first(s.Resolve(t.Context(), "box:3"))
	copied(t, s, id, 1000)
	copied(t, s, id, 2000)()
	copied(t, s, id, 3000)()
	known := first(s.store.Image(hexOf(id))).MappedTopLayers
	if len(known) != 3 {
		t.Fatalf("copies are %q", known)
	}
	// Killed before the image knew of the last one.
	name := filepath.Join(s.store.GraphRoot(), "overlay-images", "images.json")
	b, err := os.ReadFile(name)
	must(t, err)
	s.store.Free()
	must(t, os.WriteFile(name, bytes.Replace(b, []byte(`,"`+known[2]+`"`), nil, 1), 0o600))
	s = open(t, dir)
	must(t, s.reaper.wait(t.Context()))
	for i, l := range known {
		if s.store.Exists(l) != (i < 2) {
			t.Errorf("copy %d is there: %v", i, s.store.Exists(l))
		}
	}
	if n, _, err := s.Usage(t.Context()); err != nil || n != im.Size {
		t.Errorf("Unused is %d, %v; want %d", n, err, im.Size)
	}
	if _, n, err := s.Usage(t.Context()); err != nil || n[id] != im.Size || len(n) != 1 {
		t.Errorf("Copies are %v, %v; want %d", n, err, im.Size)
	}
	if n, err := s.Collect(t.Context()); err != nil || n != im.Size {
		t.Errorf("Collect is %d, %v; want %d", n, err, im.Size)
	}
	if got := first(s.store.Image(hexOf(id))).MappedTopLayers; len(got) != 1 || got[0] != known[0] {
		t.Errorf("copies after Collect are %q", got)
	}
}

// A process killed between its answer and the removal of the files: the next start goes on.
func TestDeleteKilled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, boxed, boxed3))
	must(t, err)
	must(t, s.Untag(t.Context(), "box:3"))
	// What Delete does up to where it answers.
	layers, err := s.store.DeleteImage(hexOf(boxed3.ID(t)), false)
	must(t, err)
	if len(layers) != 1 {
		t.Fatalf("layers of one alone are %q", layers)
	}
	_, err = s.reaper.doom(hexOf(boxed3.ID(t)), layers)
	must(t, err)
	must(t, s.store.Delete(hexOf(boxed3.ID(t))))
	// Another one is killed before its record went: it stays.
	_, err = s.reaper.doom(hexOf(boxed.ID(t)), []string{first(s.store.Image(hexOf(boxed.ID(t)))).TopLayer, "cut"})
	must(t, err)
	s.store.Free()

	s = open(t, dir)
	must(t, s.reaper.wait(t.Context()))
	if s.store.Exists(layers[0]) {
		t.Error("the layer of the deleted image is still there")
	}
	if n, _, err := s.Usage(t.Context()); err != nil || n != 0 {
		t.Errorf("Unused is %d, %v", n, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	save(t, s, "box:1")
}

// An image that is loaded while its layers are being removed is whole.
func TestDeleteAndLoad(t *testing.T) {
	s := open(t, t.TempDir())
	archive := porttest.DockerArchive(t, porttest.ArchiveImage{Tags: []string{"x"}, Layers: boxed.Layers})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 15 {
				got, err := load(t, s, archive)
				if moss.ClassOf(err) == moss.NotFound {
					continue // the other one deleted it
				}
				if err != nil {
					t.Error(err)
					return
				}
				var out bytes.Buffer
				if _, err := s.Save(t.Context(), moss.SaveRequest{Refs: []string{string(got[0].ID)}}, &out); err != nil && moss.ClassOf(err) != moss.NotFound {
					t.Error(err)
				}
				_ = s.Untag(t.Context(), "x")
				if _, err := s.Delete(t.Context(), got[0].ID); err != nil && moss.ClassOf(err) != moss.NotFound && moss.ClassOf(err) != moss.Conflict {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, err := load(t, s, archive)
	must(t, err)
	save(t, s, "x")
	_, err = s.Collect(t.Context())
	must(t, err)
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What a killed process left half made goes at the next start, all of it.
func TestNewDropsHalfMade(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, boxed))
	must(t, err)
	// A layer of a record without its last data, by another's rules: no pull would ask for it.
	stray, _, err := s.store.PutLayer("", "", nil, "", false, nil, bytes.NewReader(porttest.Tar(t, porttest.File{Name: "x", Text: "x"})))
	must(t, err)
	_, err = s.store.CreateImage(strings.Repeat("ab", 32), nil, stray.ID, "", nil)
	must(t, err)
	// What was being unpacked.
	half := filepath.Join(s.store.GraphRoot(), "overlay", "staging", "staging-dir-1", "dir")
	must(t, os.MkdirAll(half, 0o700))
	must(t, os.WriteFile(filepath.Join(half, "file"), []byte("x"), 0o600))
	// And what a start before this one did not get to the end of.
	must(t, os.MkdirAll(filepath.Join(s.reaper.dir, "tree-1", "sub"), 0o700))
	s.store.Free()
	s = open(t, dir)
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was half unpacked is %v", err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if s.store.Exists(stray.ID) {
		t.Error("the layer is still there")
	}
	save(t, s, "box:1")
}

// An image is deleted right after one that was made of it, whose layer is still on its way out.
func TestDeleteBase(t *testing.T) {
	s := open(t, t.TempDir())
	base, err := s.Import(t.Context(), bytes.NewReader(porttest.Tar(t, porttest.File{Name: "low", Text: "low"})), moss.ImportOptions{})
	must(t, err)
	made, err := s.Make(t.Context(), moss.NewImage{Base: base.ID}, bytes.NewReader(porttest.Tar(t, porttest.File{Name: "high", Text: "high"})))
	must(t, err)
	// The reaper stands still meanwhile.
	s.reaper.mu.Lock()
	idle := make(chan struct{})
	s.reaper.queue, s.reaper.idle = append(s.reaper.queue, batch{file: filepath.Join(s.reaper.dir, "none")}), idle
	s.reaper.mu.Unlock()
	for _, id := range []moss.ImageID{made, base.ID} {
		removed, err := s.Delete(t.Context(), id)
		must(t, err)
		if len(removed) != 2 {
			t.Errorf("Delete tells %+v, and not of one layer", removed)
		}
	}
	go s.reaper.run(idle)
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestHolds(t *testing.T) {
	h := newHolds()
	done, ok := h.take("a")
	if _, again := h.take("a"); !ok || again {
		t.Fatal("a layer is taken twice, or not at all")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hold(ctx, "b", "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("hold of what is being removed is %v", err)
	}
	held := make(chan func())
	go func() { held <- first(h.hold(context.Background(), "a", "b")) }()
	select {
	case <-held:
		t.Error("hold does not wait")
	default:
	}
	done()
	release := <-held
	if _, ok := h.take("b"); ok {
		t.Error("what is held is taken")
	}
	release()
	if done, ok := h.take("b"); !ok {
		t.Error("what was released is not taken")
	} else {
		done()
	}
}

// An image's data without a record goes with Collect.
func TestCollectData(t *testing.T) {
	s := open(t, t.TempDir())
	dir := filepath.Join(s.store.GraphRoot(), "overlay-images", strings.Repeat("ab", 32))
	must(t, os.MkdirAll(dir, 0o700))
	_, err := s.Collect(t.Context())
	must(t, err)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("data without a record is %v", err)
	}
}
