package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/reexec"
	stypes "github.com/containers/storage/types"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	nstest.Main(m)
}

func rawStore(t testing.TB, dir, driver string) storage.Store {
	t.Helper()
	var options []string
	switch driver {
	case "overlay":
		options = []string{"overlay.skip_mount_home=true"}
	case "fuse-overlayfs":
		driver, options = "overlay", []string{"overlay.skip_mount_home=true", "overlay.mount_program=/usr/bin/fuse-overlayfs"}
	}
	raw, err := storage.GetStore(stypes.StoreOptions{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: driver, GraphDriverOptions: options,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(raw.Free)
	return raw
}

// fixture is a store whose staging directory must be empty at the end.
func fixture(t testing.TB) *Store {
	t.Helper()
	dir := t.TempDir()
	s := New(rawStore(t, dir, "overlay"), Options{TempDir: dir})
	t.Cleanup(func() { wantNoStaging(t, s) })
	return s
}

func wantNoStaging(t testing.TB, s *Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.store.GraphRoot(), "overlay", "staging"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, e := range left {
		t.Errorf("staging/%s is left", e.Name())
	}
}

// entry is a header with contents.
type entry struct {
	tar.Header
	text string
}

func file(name, text string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}, text}
}

func directory(name string) entry {
	return entry{tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}, ""}
}

func symlink(name, to string) entry {
	return entry{tar.Header{Name: name, Linkname: to, Mode: 0o777, Typeflag: tar.TypeSymlink}, ""}
}

func hardlink(name, to string) entry {
	return entry{tar.Header{Name: name, Linkname: to, Mode: 0o644, Typeflag: tar.TypeLink}, ""}
}

func archiveOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, e := range entries {
		h := e.Header
		h.Size = int64(len(e.text))
		if h.ModTime.IsZero() {
			h.ModTime = unixTime(1000000000 + int64(i))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// commit puts a layer into the store and returns its id.
func commit(t testing.TB, s *Store, parent string, b []byte) string {
	t.Helper()
	g, err := s.Stage(t.Context(), bytes.NewReader(b), Expect{Digest: digest.FromBytes(b), Size: int64(len(b))})
	if err != nil {
		t.Fatal(err)
	}
	id, err := g.Commit(parent)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func layerDir(s *Store, id string) string {
	return filepath.Join(s.store.GraphRoot(), "overlay", id, "diff")
}

// wantSame compares the tar that the store makes of a layer with the one it was.
func wantSame(t testing.TB, s *Store, id string, plain []byte) {
	t.Helper()
	none := archive.Uncompressed
	r, err := s.store.Diff("", id, &storage.DiffOptions{Compression: &none})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Error("Diff:", err)
	}
	if !bytes.Equal(got, plain) {
		t.Errorf("Diff gives %d bytes, other than the %d of the tar", len(got), len(plain))
	}
}

// snapshot tells all there is to a tree but for its root, a line a file.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + digest.FromBytes(b).Encoded()
			if st.Nlink > 1 {
				if inodes[st.Ino] == "" {
					inodes[st.Ino] = name
				}
				line += " = " + inodes[st.Ino]
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + to
		case unix.S_IFCHR:
			line += fmt.Sprintf(" dev %d", st.Rdev)
		}
		if st.Mtim.Sec < 1.5e9 { // else made just now, without an entry
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		lines[name] = line + xattrsOf(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func xattrsOf(t testing.TB, path string) (all string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" {
			continue
		}
		val := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, val)
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf(" %s=%q", name, val[:n])
	}
	return all
}

func wantTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	bad := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] && bad < 20 {
			bad++
			t.Errorf("%s\n is     %s\n not as %s", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be: %s", name, got[name])
		}
	}
}

// gnuTar is the tree that GNU tar makes.
func gnuTar(t testing.TB, plain []byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir)
	cmd.Stdin = bytes.NewReader(plain)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return snapshot(t, dir)
}

func wantInvalid(t testing.TB, err error) {
	t.Helper()
	if moss.ClassOf(err) != moss.Invalid {
		t.Errorf("the error is %v (%v)", err, moss.ClassOf(err))
	}
}
