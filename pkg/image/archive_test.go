package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/storage"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, s *Store, archive []byte) ([]moss.LoadedImage, error) {
	t.Helper()
	return s.Load(t.Context(), bytes.NewReader(archive), moss.LoadOptions{}, func(moss.Progress) {})
}

func compressed(t testing.TB, name string, b []byte) []byte {
	t.Helper()
	alg, err := compression.AlgorithmByName(name)
	must(t, err)
	var out bytes.Buffer
	w, err := compression.CompressStream(&out, alg, nil)
	must(t, err)
	_, err = w.Write(b)
	must(t, errors.Join(err, w.Close()))
	return out.Bytes()
}

func TestLoadCompressed(t *testing.T) {
	for _, alg := range []string{"gzip", "zstd", "Xz"} {
		t.Run(alg, func(t *testing.T) {
			s := open(t, t.TempDir())
			archive := compressed(t, alg, porttest.DockerArchive(t, porttest.Busybox()))
			if _, err := load(t, s, archive[:len(archive)*2/3]); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("loading the first two thirds is %v", err)
			}
			got, err := load(t, s, archive)
			must(t, err)
			if len(got) != 2 || got[0].Name != "busybox:latest" {
				t.Errorf("loaded %+v", got)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	// The library reads bzip2 and cannot write it: this is "x" by bzip2(1).
	bz := []byte("BZh91AY&SY\x77\x9d\x21\xbc\x00\x00\x00\x00\x80\x20\x00\x20\x00\x21\x18\x46\x82\xee\x48\xa7\x0a\x12\x0e\xf3\xa4\x37\x80")
	s := open(t, t.TempDir())
	if _, err := load(t, s, bz); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("a bzip2 of no archive is %v", err)
	}
}

func TestLoadOCI(t *testing.T) {
	s := open(t, t.TempDir())
	a := porttest.Busybox()
	b := porttest.ArchiveImage{Layers: [][]porttest.File{{{Name: "b", Text: "b"}}}}
	got, err := load(t, s, compressed(t, "gzip", porttest.OCIArchive(t, a, b)))
	must(t, err)
	want := []moss.LoadedImage{{ID: a.ID(t), Name: "busybox:latest"}, {ID: a.ID(t), Name: "localhost:5000/box:1"}, {ID: b.ID(t)}}
	if !slices.Equal(got, want) {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
	im, err := s.Resolve(t.Context(), "busybox")
	must(t, err)
	if im.Digest == "" || len(im.LayerSizes) != 2 {
		t.Errorf("image is %+v", im)
	}
	byDigest, err := s.Resolve(t.Context(), "busybox@"+im.Digest)
	if err != nil || byDigest.ID != im.ID {
		t.Errorf("by its digest the image is %v, %v", byDigest.ID, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestLoadBadOCI(t *testing.T) {
	index := func(digest, more string) porttest.File {
		return porttest.File{Name: "index.json", Text: `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","size":3` + more + `}]}`}
	}
	layout := porttest.File{Name: "oci-layout", Text: `{"imageLayoutVersion":"1.0.0"}`}
	sum := "sha256:" + strings.Repeat("a", 64)
	wrong := porttest.Busybox()
	wrong.WrongDiffID = true
	good := porttest.OCIArchive(t, porttest.Busybox())
	flipped := bytes.Replace(good, []byte("hello\n"), []byte("jello\n"), 1)
	s := open(t, t.TempDir())
	outside := filepath.Join(filepath.Dir(s.tmp), "outside")
	for name, archive := range map[string][]byte{
		"no index":          porttest.Tar(t, layout),
		"no manifest":       porttest.Tar(t, layout, index(sum, "")),
		"bad digest":        porttest.Tar(t, layout, index("sha256:../../outside", "")),
		"bad name":          porttest.Tar(t, layout, index(sum, `,"annotations":{"io.containerd.image.name":"NO NAME"}`)),
		"blob is a symlink": porttest.Tar(t, layout, index(sum, ""), porttest.File{Name: "blobs/sha256/" + strings.Repeat("a", 64), Type: tar.TypeSymlink, Link: "/etc/passwd"}),
		"blob outside":      porttest.Tar(t, layout, index(sum, ""), porttest.File{Name: "blobs/sha256/../../../outside", Text: "x"}),
		"wrong diff id":     porttest.OCIArchive(t, wrong),
		"a byte is wrong":   flipped,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := load(t, s, archive); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("Load is %v, %v; want invalid", got, err)
			} else if strings.Contains(err.Error(), "/oci-") {
				t.Errorf("the error tells of our own files: %v", err)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := os.Lstat(outside); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is there: %v", outside, err)
			}
		})
	}
}

// Whatever the names in a layer are, nothing outside of the layer is touched.
func TestHostileLayers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	victim := filepath.Join(dir, "victim")
	must(t, os.WriteFile(victim, []byte("safe"), 0o600))
	up := strings.Repeat("../", 20) + strings.TrimPrefix(dir, "/")
	link := func(name, to string) porttest.File {
		return porttest.File{Name: name, Type: tar.TypeSymlink, Link: to}
	}
	for name, files := range map[string][]porttest.File{
		"dots":             {{Name: up + "/victim", Text: "x"}, {Name: up + "/new", Text: "x"}},
		"absolute":         {{Name: victim, Text: "x"}, {Name: dir + "/new", Text: "x"}},
		"symlink":          {link("d", dir), {Name: "d/victim", Text: "x"}, {Name: "d/new", Text: "x"}},
		"relative symlink": {link("d", up), {Name: "d/victim", Text: "x"}, {Name: "d/new", Text: "x"}},
		"hard link":        {{Name: "h", Type: tar.TypeLink, Link: up + "/victim"}, {Name: "h", Text: "x"}},
		"whiteout":         {{Name: up + "/.wh.victim"}, {Name: "d/../" + up + "/.wh.victim"}},
		"symlink whiteout": {link("d", dir), {Name: "d/.wh.victim"}, {Name: "d/.wh..wh..opq"}},
		"device":           {{Name: "null", Type: tar.TypeChar}, {Name: "p", Type: tar.TypeFifo}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, s, porttest.DockerArchive(t, porttest.ArchiveImage{Tags: []string{"evil"}, Layers: [][]porttest.File{files}}))
			if err != nil && moss.ClassOf(err) != moss.Invalid {
				t.Errorf("Load is %v", err)
			}
			t.Log(err)
			if b, err := os.ReadFile(victim); string(b) != "safe" {
				t.Errorf("the file outside is %q, %v", b, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was made outside: %v", err)
			}
		})
	}
	// A layer over one with a symlink out.
	_, err := load(t, s, porttest.DockerArchive(t, porttest.ArchiveImage{Layers: [][]porttest.File{{link("d", dir)}, {{Name: "d/victim", Text: "x"}, {Name: "d/new", Text: "x"}}}}))
	t.Log(err)
	if b, err := os.ReadFile(victim); string(b) != "safe" {
		t.Errorf("the file outside is %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made outside: %v", err)
	}
}

// What a process that was killed leaves is gone after the next start, and what it had done is there.
func TestNewAfterCrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, porttest.Busybox()))
	must(t, err)
	before, err := s.Resolve(t.Context(), "busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.tmp, "spool-1"), []byte("x"), 0o600))
	base, _, err := s.store.PutLayer("", "", nil, "", false, nil, bytes.NewReader(porttest.Tar(t, porttest.File{Name: "lost"})))
	must(t, err)
	_, _, err = s.store.PutLayer("", base.ID, nil, "", false, nil, bytes.NewReader(porttest.Tar(t, porttest.File{Name: "lost2"})))
	must(t, err)
	_, err = s.store.CreateContainer(moss.NewHexID(), nil, hexOf(before.ID), "", "", &storage.ContainerOptions{LabelOpts: []string{"disable"}})
	must(t, err)
	s.store.Free()

	s = open(t, dir)
	after, err := s.Resolve(t.Context(), "busybox")
	must(t, err)
	b, err := json.Marshal(before)
	must(t, err)
	a, err := json.Marshal(after)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("image is\n%s\nwas\n%s", a, b)
	}
	must(t, s.reaper.wait(t.Context()))
	all, err := s.store.MultiList(storage.MultiListOptions{Layers: true})
	must(t, err)
	if len(all.Layers) != 3 { // two of the image and the container's
		t.Errorf("there are %d layers", len(all.Layers))
	}
	for dir, want := range map[string]int{s.tmp: 1, s.reaper.dir: 0} {
		if files, err := os.ReadDir(dir); err != nil || len(files) != want {
			t.Errorf("files in %s: %v, %v", dir, files, err)
		}
	}
	// An image that a container stands on cannot go.
	must(t, s.Untag(t.Context(), "busybox"))
	must(t, s.Untag(t.Context(), "localhost:5000/box:1"))
	if _, err := s.Delete(t.Context(), after.ID); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("Delete is %v, want a conflict", err)
	}
	if _, err := s.Resolve(t.Context(), string(after.ID)); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}

// Loads beside each other, good and bad ones, do not take each other's layers.
func TestLoadsInParallel(t *testing.T) {
	s := open(t, t.TempDir())
	wrong := porttest.ArchiveImage{WrongDiffID: true, Layers: [][]porttest.File{{{Name: "x", Text: "x"}}}}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if i%3 == 0 {
				bad := wrong
				bad.Tags = []string{"bad"}
				if _, err := s.Load(t.Context(), bytes.NewReader(porttest.DockerArchive(t, porttest.Busybox(), bad)), moss.LoadOptions{}, func(moss.Progress) {}); err == nil {
					t.Error("a bad archive loads")
				}
				return
			}
			im := porttest.ArchiveImage{Tags: []string{"n:" + string(rune('a'+i))}, Layers: [][]porttest.File{{{Name: "shared", Text: "s"}}, {{Name: "own", Text: string(rune('a' + i))}}}}
			if _, err := s.Load(t.Context(), bytes.NewReader(porttest.DockerArchive(t, im)), moss.LoadOptions{}, func(moss.Progress) {}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := s.List(t.Context())
	must(t, err)
	if len(list) != 8 {
		t.Errorf("there are %d images", len(list))
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestDeleteNamesLayers(t *testing.T) {
	s := open(t, t.TempDir())
	got, err := load(t, s, porttest.DockerArchive(t, porttest.ArchiveImage{Layers: [][]porttest.File{{{Name: "a"}}, {{Name: "b"}}}}))
	must(t, err)
	removed, err := s.Delete(t.Context(), got[0].ID)
	must(t, err)
	if len(removed) != 3 {
		t.Errorf("Delete gives %+v, want the image and two layers", removed)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	s := &Store{images: map[moss.ImageID]moss.Image{}, names: map[string]moss.ImageID{}}
	for _, id := range []moss.ImageID{"sha256:abc1", "sha256:abc2"} {
		s.putLocked(moss.Image{ID: id})
	}
	if _, err := s.Resolve(t.Context(), "abc"); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("Resolve is %v, want a conflict", err)
	}
	if im, err := s.Resolve(t.Context(), "abc2"); err != nil || im.ID != "sha256:abc2" {
		t.Errorf("Resolve is %v, %v", im.ID, err)
	}
}

// FuzzArchive: what is read as an archive has images, and a configuration and layers for each.
func FuzzArchive(f *testing.F) {
	f.Add(porttest.DockerArchive(f, porttest.Busybox()))
	f.Add(porttest.OCIArchive(f, porttest.Busybox()))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := scan(bytes.NewReader(b))
		if err != nil {
			return
		}
		images, err := a.images(imgspec.Platform{})
		if err == nil && len(images) == 0 {
			t.Error("neither images nor an error")
		}
		for _, im := range images {
			if len(im.layers) != len(im.diffIDs) || len(im.config) == 0 {
				t.Errorf("image %+v", im)
			}
			for _, l := range im.layers {
				_, _ = io.Copy(io.Discard, l.at)
			}
		}
	})
}
