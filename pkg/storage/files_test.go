package storage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

// container makes one of an image and mounts it.
func container(t *testing.T, s *Storage, image moss.ImageID) (moss.ContainerID, string) {
	t.Helper()
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	t.Cleanup(func() { must(t, s.Remove(t.Context(), id)) })
	return id, m.Path
}

// read reads a tar to a line for each entry.
func read(t *testing.T, r io.ReadCloser, err error) map[string]string {
	t.Helper()
	must(t, err)
	defer func() { must(t, r.Close()) }()
	got := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		must(t, err)
		text, err := io.ReadAll(tr)
		must(t, err)
		if h.Name != filepath.Clean(h.Name) && h.Name != filepath.Clean(h.Name)+"/" {
			t.Errorf("the name %q is not a clean one", h.Name)
		}
		if _, twice := got[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		sum := fmt.Sprintf("%.60q", bytes.TrimLeft(text, "\x00"))
		got[h.Name] = fmt.Sprintf("%c %o %d:%d len=%d %s ->%s %v", h.Typeflag, h.Mode, h.Uid, h.Gid, len(text), sum, h.Linkname, attributes(h))
	}
}

func attributes(h *tar.Header) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if key, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			out = append(out, fmt.Sprintf("%s=%q", key, h.PAXRecords[k]))
		}
	}
	return strings.Join(out, " ")
}

func diff(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, n := range slices.Sorted(maps.Keys(want)) {
		if got[n] != want[n] {
			t.Errorf("%s is  %q\n\twant %q", n, got[n], want[n])
		}
	}
	for _, n := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[n]; !ok {
			t.Errorf("%s is too much: %q", n, got[n])
		}
	}
}

func baseFiles() []porttest.File {
	dir := func(name string) porttest.File { return porttest.File{Name: name, Type: tar.TypeDir, Mode: 0o755} }
	return []porttest.File{
		dir("etc"),
		{Name: "etc/passwd", Text: "root\n"},
		dir("full"),
		{Name: "full/a", Text: "a"},
		{Name: "full/b", Text: "b"},
		dir("full/deep"),
		{Name: "full/deep/c", Text: "c"},
		dir("removed"),
		{Name: "removed/x", Text: "x"},
		dir("kept"),
		{Name: "kept/y", Text: "y"},
		{Name: "kept/z", Text: "z"},
		dir("becomes-file"),
		{Name: "becomes-file/x", Text: "x"},
		{Name: "becomes-dir", Text: "f"},
		{Name: "mode", Text: "m", Mode: 0o600},
		dir("dirmode"),
		{Name: "dirmode/in", Text: "in"},
		{Name: "link1", Text: "linked"},
		{Name: "link2", Type: tar.TypeLink, Link: "link1"},
		{Name: "sym", Type: tar.TypeSymlink, Link: "mode", Mode: 0o777},
		{Name: "same", Text: "same"},
	}
}

func change(t *testing.T, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	write := func(name, text string) { t.Helper(); must(t, os.WriteFile(at(name), []byte(text), 0o644)) }
	must(t, os.RemoveAll(at("full")))
	must(t, os.Mkdir(at("full"), 0o755))
	write("full/new", "new")
	must(t, os.RemoveAll(at("removed")))
	must(t, os.Remove(at("kept/y")))
	must(t, os.RemoveAll(at("becomes-file")))
	write("becomes-file", "now a file")
	must(t, os.Remove(at("becomes-dir")))
	must(t, os.MkdirAll(at("becomes-dir/sub"), 0o755))
	write("becomes-dir/sub/f", "f")
	must(t, unix.Chmod(at("mode"), 0o4755))
	must(t, unix.Chmod(at("dirmode"), 0o1777))
	write("link1", "no longer linked in overlay")
	must(t, os.Remove(at("sym")))
	must(t, os.Symlink(strings.Repeat("long/", 60), at("sym")))
	write("own1", "own link")
	must(t, os.Link(at("own1"), at("own2")))
	must(t, unix.Mkfifo(at("fifo"), 0o640))
	write("attr", "x")
	must(t, unix.Setxattr(at("attr"), "user.color", []byte("blue\x00green"), 0))
	must(t, unix.Setxattr(at("attr"), "user.big", bytes.Repeat([]byte("b"), 1000), 0))
	must(t, os.Mkdir(at("attrdir"), 0o755))
	must(t, unix.Setxattr(at("attrdir"), "user.color", []byte("red"), 0))
	write(strings.Repeat("n", 250), "long name")
	deep := strings.Repeat(strings.Repeat("d", 100)+"/", 5)
	must(t, os.MkdirAll(at(deep), 0o755))
	write(deep+"f", "deep")
	f, err := os.Create(at("sparse"))
	must(t, err)
	must(t, f.Truncate(10<<20))
	_, err = f.WriteAt([]byte("end"), 10<<20-3)
	must(t, err)
	must(t, f.Close())
	must(t, os.Mkdir(at("empty"), 0o711))
}

// What a container changed, put on its image as a layer, makes its tree again.
func TestDiffMakesTheTreeAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := open(t, t.TempDir(), driver)
		base := image(t, s, baseFiles()...)
		id, root := container(t, s, base)
		change(t, root)
		must(t, unix.Mknod(filepath.Join(root, "sock"), unix.S_IFSOCK|0o600, 0))
		for _, n := range []string{"proc", "dev", "sys"} { // what the runtime makes
			must(t, os.Mkdir(filepath.Join(root, n), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(root, "etc/hosts"), nil, 0o644))
		if nstest.Full() {
			must(t, os.Chown(filepath.Join(root, "attr"), 1000, 33))
		}

		changes := read2(t, s, id, true)
		for _, name := range []string{"sock", "proc/", "dev/", "sys/", "etc/hosts", "same", "full/deep/", ".wh.full"} {
			if v, ok := changes[name]; ok {
				t.Errorf("the changes have %s: %s", name, v)
			}
		}
		for _, name := range []string{"full/new", ".wh.removed", "kept/", "kept/.wh.y", "own2", "becomes-file"} {
			if _, ok := changes[name]; !ok {
				t.Errorf("the changes lack %s", name)
			}
		}
		// Mode, links and attributes.
		for name, want := range map[string]string{"mode": "0 4755 ", "dirmode/": "5 1777 ", "fifo": "6 640 ", "own2": "->own1", "attr": `user.color="blue\x00green"`, "attrdir/": `user.color="red"`} {
			if !strings.Contains(changes[name], want) {
				t.Errorf("%s is %q, want %q in it", name, changes[name], want)
			}
		}

		r, err := s.Diff(t.Context(), id)
		must(t, err)
		again := onTop(t, s, base, r)
		id2, _ := container(t, s, again)
		want := read2(t, s, id, false)
		for _, stub := range []string{"proc/", "dev/", "sys/", "etc/hosts"} {
			if _, ok := want[stub]; !ok {
				t.Errorf("the export lacks %s", stub)
			}
			delete(want, stub)
		}
		diff(t, read2(t, s, id2, false), want)
		// What was not changed since has no changes.
		if c := read2(t, s, id2, true); len(c) != 0 {
			t.Errorf("a new container has changes: %v", c)
		}
	})
}

func read2(t *testing.T, s *Storage, id moss.ContainerID, changes bool) map[string]string {
	t.Helper()
	if changes {
		r, err := s.Diff(t.Context(), id)
		return read(t, r, err)
	}
	r, err := s.Export(t.Context(), id)
	return read(t, r, err)
}

// onTop makes an image of another and a layer.
func onTop(t *testing.T, s *Storage, base moss.ImageID, r io.ReadCloser) moss.ImageID {
	t.Helper()
	defer func() { must(t, r.Close()) }()
	im, err := s.store.Image(strings.TrimPrefix(string(base), "sha256:"))
	must(t, err)
	layer, _, err := s.store.PutLayer("", im.TopLayer, nil, "", false, nil, r)
	must(t, err)
	id := moss.NewHexID()
	_, err = s.store.CreateImage(id, nil, layer.ID, "", nil)
	must(t, err)
	return moss.ImageID("sha256:" + id)
}

// The tree that Export reads from the layers is what the mount shows, whatever
// the layers do to each other.
func TestExportIsWhatTheMountShows(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := open(t, t.TempDir(), driver)
		im := image(t, s, baseFiles()...)
		for i := range 4 {
			id, root := container(t, s, im)
			if i == 0 {
				change(t, root)
			}
			must(t, os.RemoveAll(filepath.Join(root, "kept")))
			if i%2 == 1 {
				must(t, os.Mkdir(filepath.Join(root, "kept"), 0o755))
				must(t, os.WriteFile(filepath.Join(root, "kept", fmt.Sprint(i)), nil, 0o644))
				must(t, os.WriteFile(filepath.Join(root, "becomes-dir/sub", fmt.Sprint(i)), nil, 0o644))
			}
			r, err := s.Diff(t.Context(), id)
			must(t, err)
			im = onTop(t, s, im, r)
		}
		id, root := container(t, s, im)
		must(t, os.Remove(filepath.Join(root, "same")))
		var shown []string
		must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(root, path); err == nil && rel != "." {
				if d.IsDir() {
					rel += "/"
				}
				shown = append(shown, rel)
			}
			return err
		}))
		slices.Sort(shown)
		if got := slices.Sorted(maps.Keys(read2(t, s, id, false))); !slices.Equal(got, shown) {
			t.Errorf("Export has %q\nthe mount %q", got, shown)
		}
	})
}

// A container that writes while it is read spoils nothing, and neither do links
// that it puts in the way.
func TestExportWhileItChanges(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	id, root := container(t, s, image(t, s, baseFiles()...))
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(filepath.Join(filepath.Dir(secret), "f"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "log"), nil, 0o600))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.WriteFile(filepath.Join(root, "log"), bytes.Repeat([]byte("x"), i*1000%300000), 0o600) // what fails is tried again
			_ = os.RemoveAll(filepath.Join(root, "swap"))
			_ = os.Mkdir(filepath.Join(root, "swap"), 0o700)
			_ = os.WriteFile(filepath.Join(root, "swap/f"), []byte("own"), 0o600)
			_ = os.RemoveAll(filepath.Join(root, "swap"))
			_ = os.Symlink(filepath.Dir(secret), filepath.Join(root, "swap"))
		}
	}()
	for range 50 {
		for name, line := range read2(t, s, id, false) {
			if strings.Contains(line, "secret") && !strings.Contains(line, "->"+filepath.Dir(secret)) {
				t.Fatalf("%s: %s", name, line)
			}
		}
	}
	close(stop)
	<-done
}

// A reader of a container that is removed does not take it for an empty one.
func TestExportOfWhatIsRemoved(t *testing.T) {
	s := open(t, t.TempDir(), "")
	id, root := container(t, s, image(t, s, hello))
	must(t, os.WriteFile(filepath.Join(root, "a"), bytes.Repeat([]byte("a"), 1<<20), 0o600))
	r, err := s.Export(t.Context(), id)
	must(t, err)
	defer func() { must(t, r.Close()) }()
	_, err = io.ReadFull(r, make([]byte, 1024))
	must(t, err)
	must(t, s.Remove(t.Context(), id))
	if _, err := io.Copy(io.Discard, r); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("reading on gives %v", err)
	}
}

func TestWrittenIsKept(t *testing.T) {
	s := open(t, t.TempDir(), "")
	id, root := container(t, s, image(t, s, hello))
	for i := range 500 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), []byte("12345"), 0o600))
	}
	must(t, os.Link(filepath.Join(root, "1"), filepath.Join(root, "again")))
	must(t, s.Unmount(t.Context(), id))
	measured := func(want int64) {
		t.Helper()
		if n, err := s.Written(t.Context(), id); n != want || err != nil {
			t.Errorf("Written is %d, %v, want %d", n, err, want)
		}
	}
	measured(2500)
	// Only who looks again sees what comes behind the back of the store.
	p, err := s.place(id)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.top, "behind"), []byte("12345"), 0o600))
	measured(2500)
	_, err = s.Mount(t.Context(), id)
	must(t, err)
	measured(2505)
	must(t, s.Unmount(t.Context(), id))
	measured(2505)
}
