package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

// claim changes the size that the first header tells.
func claim(t testing.TB, b []byte, octal string) []byte {
	t.Helper()
	b = bytes.Clone(b)
	copy(b[124:136], octal)
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func hostile(t testing.TB) map[string][]byte {
	deep := strings.Repeat("d/", 2100) + "f"
	links := []entry{symlink("l0", "l1")}
	for i := 1; i < 50; i++ {
		links = append(links, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
	}
	headers := bytes.Repeat(archiveOf(t, entry{tar.Header{Name: strings.Repeat("x", 900<<10), Typeflag: tar.TypeReg}, ""})[:902<<10], 20)
	one := archiveOf(t, file("f", "x"))
	return map[string][]byte{
		"dot dot":                  archiveOf(t, file("../victim/new", "x")),
		"dot dot inside":           archiveOf(t, file("a/../../victim/new", "x")),
		"dot dot absolute":         archiveOf(t, file("/../victim/new", "x")),
		"dot dot alone":            archiveOf(t, directory("..")),
		"hard link up":             archiveOf(t, hardlink("l", "../../victim/file"), file("l", "changed")),
		"hard link out":            archiveOf(t, symlink("v", "VICTIM"), hardlink("l", "v/file")),
		"hard link absolute":       archiveOf(t, hardlink("l", "VICTIM/file")),
		"hard link to nothing":     archiveOf(t, hardlink("l", "no")),
		"hard link to a directory": archiveOf(t, directory("d"), hardlink("l", "d")),
		"hard link to itself":      archiveOf(t, hardlink("l", "l")),
		"hard link to the root":    archiveOf(t, hardlink("l", "/")),
		"links in a ring":          archiveOf(t, symlink("a", "b"), symlink("b", "a"), file("a/f", "x")),
		"links without end":        archiveOf(t, append(links, file("l0/f", "x"))...),
		"below a file":             archiveOf(t, file("f", "x"), file("f/g", "x")),
		"whiteout of nothing":      archiveOf(t, directory("d"), file("d/.wh.", "")),
		"whiteout of itself":       archiveOf(t, directory("d"), file("d/.wh..", "")),
		"whiteout of its parent":   archiveOf(t, directory("d"), file("d/.wh...", "")),
		"long element":             archiveOf(t, file(strings.Repeat("n", 256), "x")),
		"deep":                     archiveOf(t, file(deep, "x")),
		"long target":              archiveOf(t, symlink("l", strings.Repeat("t", 5000))),
		"claim of 8 GB":            claim(t, one, "77777777777\x00"),
		"claim below nothing":      claim(t, one, "-0000000001\x00"),
		"claim of 9 exabytes":      claim(t, one, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"),
		"headers without end":      headers,
		"unknown type":             archiveOf(t, entry{tar.Header{Name: "f", Typeflag: 'Z'}, ""}),
		"owner of nobody":          archiveOf(t, with(file("f", "x"), func(h *tar.Header) { h.Uid = 1<<32 - 1 })),
		"no tar":                   bytes.Repeat([]byte("hello "), 1000),
		"cut":                      archiveOf(t, file("f", strings.Repeat("x", 5000)))[:2000],
		"cut gzip":                 gz(t, many(t, 100))[:20000],
		"gzip and more":            append(gz(t, one), "more"...),
		"gzip alone":               {0x1f, 0x8b},
		"empty":                    {},
		"xz of 4 GB":               append([]byte(xzMagic+"\x00\x04\xe6\xd6\xb4\x46"), 2, 0, 0x21, 1, 40, 0, 0, 0, 0, 0, 0, 0),
	}
}

// Nothing outside the layer is touched, nothing of it stays.
func TestHostile(t *testing.T) {
	s := fixture(t)
	victim := filepath.Join(s.store.GraphRoot(), "overlay", "staging", "victim")
	outside := t.TempDir()
	for _, dir := range []string{victim, outside} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("safe"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, beforeOut := snapshot(t, victim), snapshot(t, outside)
	for name, b := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			b = bytes.ReplaceAll(b, []byte("VICTIM"), []byte("/victi"))
			g, err := s.Stage(t.Context(), bytes.NewReader(b), Expect{})
			if err == nil {
				_ = g.Discard()
				t.Fatal("it was unpacked")
			}
			wantInvalid(t, err)
			if len(err.Error()) > 6000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	wantTree(t, snapshot(t, victim), before)
	wantTree(t, snapshot(t, outside), beforeOut)
	if err := os.RemoveAll(victim); err != nil {
		t.Fatal(err)
	}
}

// A symbolic link to the outside leads to the same name inside.
func TestLinksToTheOutside(t *testing.T) {
	s := fixture(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, outside)
	plain := archiveOf(t, symlink("v", outside), file("v/file", "changed"), directory("v/dir"), file("v/.wh.gone", ""), symlink("w", outside+"/file"), file("w", "changed"),
		directory("late"), directory("late/dir"), symlink("late", outside))
	id := commit(t, s, "", plain)
	wantTree(t, snapshot(t, outside), before)
	if b, err := os.ReadFile(filepath.Join(layerDir(s, id), outside, "file")); err != nil || string(b) != "changed" {
		t.Errorf("inside is %q, %v", b, err)
	}
	wantSame(t, s, id, plain)
}

func TestExpectations(t *testing.T) {
	s := fixture(t)
	plain := archiveOf(t, file("f", "x"))
	z := gz(t, plain)
	for name, want := range map[string]Expect{
		"digest":    {Digest: digest.FromString("other")},
		"diff id":   {DiffID: digest.FromBytes(z)},
		"too short": {Size: int64(len(z)) + 1},
		"too long":  {Size: int64(len(z)) - 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Stage(t.Context(), bytes.NewReader(z), want)
			wantInvalid(t, err)
		})
	}
	g, err := s.Stage(t.Context(), bytes.NewReader(z), Expect{digest.FromBytes(z), digest.FromBytes(plain), int64(len(z))})
	if err != nil {
		t.Fatal(err)
	}
	if i := g.Info(); i.Size != int64(len(plain)) || i.Compressed != int64(len(z)) {
		t.Errorf("Info is %+v", i)
	}
	if err := errors.Join(g.Discard(), g.Discard()); err != nil {
		t.Error(err)
	}
}

var errNetwork = errors.New("the network is down")

// What the reader fails with comes back as it is; so does the end of ctx.
func TestReaderErrors(t *testing.T) {
	s := fixture(t)
	z := gz(t, many(t, 200))
	for _, n := range []int{0, 1, 5000, len(z) - 1} {
		_, err := s.Stage(t.Context(), io.MultiReader(bytes.NewReader(z[:n]), failing{}), Expect{})
		if !errors.Is(err, errNetwork) || moss.ClassOf(err) == moss.Invalid {
			t.Errorf("after %d bytes: %v", n, err)
		}
		// Which a cut archive, too, would be told by.
		_, err = s.Stage(t.Context(), io.MultiReader(bytes.NewReader(z[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)), Expect{})
		if err != io.ErrUnexpectedEOF { //nolint:errorlint // as it is
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Stage(ctx, io.MultiReader(bytes.NewReader(z[:5000]), canceling(cancel), bytes.NewReader(z[5000:])), Expect{})
	if !errors.Is(err, context.Canceled) {
		t.Error("cancelled:", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errNetwork }

type canceling func()

func (c canceling) Read([]byte) (int, error) { c(); return 0, io.EOF }

func TestIDsBeyondTheRange(t *testing.T) {
	if !nstest.Full() {
		t.Skip("no range of ids here")
	}
	s := fixture(t)
	for what, e := range map[string]entry{
		"user id 70000":   with(file("f", "x"), func(h *tar.Header) { h.Uid = 70000 }),
		"group id 100000": with(directory("f"), func(h *tar.Header) { h.Gid = 100000 }),
		"user id 65536":   with(symlink("f", "x"), func(h *tar.Header) { h.Uid = 65536 }),
	} {
		_, err := s.Stage(t.Context(), bytes.NewReader(archiveOf(t, e)), Expect{})
		for _, part := range []string{what, `"f"`, "usermod", "moss doctor"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error lacks %s: %v", what, part, err)
			}
		}
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s := New(rawStore(t, dir, "overlay"), Options{})
	for name, b := range map[string][]byte{"many": many(t, 5000), "large": archiveOf(t, file("f", strings.Repeat("x", 4<<20)))} {
		_, err := s.Stage(t.Context(), bytes.NewReader(b), Expect{})
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	wantNoStaging(t, s)
	commit(t, s, "", archiveOf(t, file("f", "x")))
}

// FuzzUnpack looks for panics, hangs, escapes, and tars that do not come back.
func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, everything()...))
	for _, b := range hostile(f) {
		if len(b) < 64<<10 {
			f.Add(b)
		}
	}
	f.Add(archiveOf(f, directory("d"), file("d/.wh.x", ""), file("d/.wh..wh..opq", ""), file("d", "y"), symlink("d", "/"), file("d/e", "z")))
	s := fixture(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := s.Stage(t.Context(), bytes.NewReader(b), Expect{})
		if err != nil {
			if c := moss.ClassOf(err); c != moss.Invalid && c != moss.Unavailable {
				t.Errorf("the error is %v (%v)", err, c)
			}
			return
		}
		id, err := g.Commit("")
		if err != nil {
			t.Fatal(err)
		}
		if b[0] != 0x1f && digest.FromBytes(b) == g.Info().DiffID {
			wantSame(t, s, id, b)
		}
		if err := s.store.DeleteLayer(id); err != nil {
			t.Error(err)
		}
	})
}
