package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"
)

func TestFormats(t *testing.T) {
	s := fixture(t)
	plain := many(t, 50)
	zs, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var x bytes.Buffer
	w, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bz := exec.CommandContext(t.Context(), "bzip2")
	bz.Stdin = bytes.NewReader(plain)
	b, err := bz.Output()
	if err != nil {
		t.Fatal(err)
	}
	skipped := append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"), zs.EncodeAll(plain, nil)...)
	half := 512 * 20
	for name, c := range map[string][]byte{
		"plain": plain, "gzip": gz(t, plain), "gzip in two": append(gz(t, plain[:half]), gz(t, plain[half:])...),
		"zstd": zs.EncodeAll(plain, nil), "zstd in two, with a frame to skip": append(slices.Clip(skipped), zs.EncodeAll(nil, nil)...),
		"xz": x.Bytes(), "bzip2": b, "padded": append(bytes.Clone(plain), make([]byte, 3<<20)...),
		"without an end": plain[:len(plain)-1024],
	} {
		t.Run(name, func(t *testing.T) {
			g, err := s.Stage(t.Context(), bytes.NewReader(c), Expect{Digest: digest.FromBytes(c)})
			if err != nil {
				t.Fatal(err)
			}
			want := plain
			if name == "padded" || name == "without an end" {
				want = c
			}
			if got := g.Info().DiffID; got != digest.FromBytes(want) {
				t.Errorf("the diff id is %s", got)
			}
			id, err := g.Commit("")
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, s, id, want)
		})
	}
}

// lower and upper are two layers; merged is what they are together.
var (
	lower = []entry{
		directory("d"), file("d/a", "low"), file("d/b", "low"), directory("o"), file("o/low", "low"), file("gone", "low"),
		directory("tree"), file("tree/f", "low"), directory("back"), file("back/low", "low"), file("mine", "low"), directory("both"), file("both/low", "low"),
	}
	upper = []entry{
		file("d/.wh.a", ""), directory("o"), file("o/up", "up"), file("o/.wh..wh..opq", ""), file(".wh.gone", ""), file(".wh.tree", ""), file("tree/.wh.f", ""),
		file(".wh.back", ""), directory("back"), file("back/up", "up"), file(".wh.never", ""), file("mine", "up"), file(".wh.mine", ""),
		file(".wh..wh.aufs", ""), directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), directory("both"), file("both/up", "up"),
		{tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}, ""},
		{tar.Header{Name: "zero", Typeflag: tar.TypeChar, Mode: 0o666}, ""},
	}
	merged = []string{"back", "back/up", "both", "both/low", "both/up", "d", "d/b", "mine", "o", "o/up"}
)

func TestWhiteouts(t *testing.T) {
	for _, driver := range []string{"overlay", "fuse-overlayfs", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "fuse-overlayfs" {
				if _, err := os.Stat("/dev/fuse"); err != nil {
					t.Skip("no /dev/fuse here")
				}
				if _, err := exec.LookPath(driver); err != nil {
					t.Skip("no fuse-overlayfs here")
				}
			}
			dir := t.TempDir()
			s := New(rawStore(t, dir, driver), Options{TempDir: dir})
			low := commit(t, s, "", archiveOf(t, lower...))
			plain := archiveOf(t, upper...)
			if driver == "vfs" { // the library's own way does otherwise with these
				plain = archiveOf(t, slices.DeleteFunc(slices.Clone(upper), func(e entry) bool {
					return e.Name == ".wh.mine" || e.Name == "tree/.wh.f" || strings.HasPrefix(e.Name, metaPrefix+"plnk")
				})...)
			}
			g, err := s.Stage(t.Context(), bytes.NewReader(plain), Expect{})
			if err != nil {
				t.Fatal(err)
			}
			id, err := g.Commit(low)
			if err != nil {
				t.Fatal(err)
			}
			if want := ChainID([]digest.Digest{digest.FromBytes(archiveOf(t, lower...)), g.Info().DiffID}); id != want {
				t.Errorf("the id is %s, not %s", id, want)
			}
			if i, ok := s.Has(id); !ok || i.Size != int64(len(plain)) || i.Compressed != int64(len(plain)) || i.DiffID != digest.FromBytes(plain) {
				t.Errorf("Has gives %+v, %v", i, ok)
			}
			wantSame(t, s, id, plain)
			if driver != "vfs" && len(g.Info().Skipped) != 2 {
				t.Errorf("skipped are %q", g.Info().Skipped)
			}
			if driver == "fuse-overlayfs" {
				if _, err := os.Lstat(filepath.Join(layerDir(s, id), ".wh.gone")); err != nil {
					t.Error(err)
				}
			}
			root, err := s.store.Mount(id, "")
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Sorted(maps.Keys(snapshot(t, root)))
			if _, err := s.store.Unmount(id, true); err != nil {
				t.Error(err)
			}
			if driver == "fuse-overlayfs" { // where a whiteout and a file meet it is the file's upper layer that counts
				got = slices.DeleteFunc(got, func(n string) bool { return strings.HasPrefix(n, "back") || n == "mine" })
			}
			want := merged
			if driver == "fuse-overlayfs" {
				want = slices.DeleteFunc(slices.Clone(merged), func(n string) bool { return strings.HasPrefix(n, "back") || n == "mine" })
			}
			if !slices.Equal(got, want) {
				t.Errorf("there is %q\n not    %q", got, want)
			}
		})
	}
}

// Whoever commits a layer that is there gets it.
func TestCommitTwice(t *testing.T) {
	s := fixture(t)
	plain := many(t, 20)
	var staged []*Staged
	for range 3 {
		g, err := s.Stage(t.Context(), io.LimitReader(bytes.NewReader(plain), 1<<40), Expect{})
		if err != nil {
			t.Fatal(err)
		}
		staged = append(staged, g)
	}
	ids := make(chan string, len(staged))
	for _, g := range staged {
		go func() {
			id, err := g.Commit("")
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	for range staged {
		if id := <-ids; id != digest.FromBytes(plain).Encoded() {
			t.Error(id)
		}
	}
	layers, err := s.store.Layers()
	if err != nil || len(layers) != 1 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
	if _, err := staged[0].Commit(""); err == nil {
		t.Error("a staged layer was committed twice")
	}
	if g, err := s.Stage(t.Context(), bytes.NewReader(plain), Expect{}); err != nil {
		t.Error(err)
	} else if _, err := g.Commit("0000000000000000000000000000000000000000000000000000000000000000"); err == nil {
		t.Error("a layer was committed on a parent that is not there")
	}
}
