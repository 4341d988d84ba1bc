package volume_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/volume"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t *testing.T, dir string) *volume.Store {
	t.Helper()
	s, err := volume.Open(volume.Options{Dir: filepath.Join(dir, "volumes"), RunDir: filepath.Join(dir, "run"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *volume.Store, name string, options ...string) moss.Volume {
	t.Helper()
	r := moss.VolumeRequest{Name: name}
	for i := 0; i+1 < len(options); i += 2 {
		if r.Options == nil {
			r.Options = make(map[string]string)
		}
		r.Options[options[i]] = options[i+1]
	}
	v, _, err := s.Create(t.Context(), r)
	must(t, err)
	return v
}

func TestContract(t *testing.T) {
	porttest.Volumes(t, func(t *testing.T) porttest.VolumeStore { return open(t, t.TempDir()) })
}

// A daemon that begins finds the volumes, throws unfinished ones away, and
// finishes a fill whose copy was complete.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v := create(t, s, "data", "type", "tmpfs", "device", "tmpfs")
	create(t, s, "half")
	create(t, s, "full")
	at := func(parts ...string) string { return filepath.Join(append([]string{dir, "volumes"}, parts...)...) }
	must(t, os.MkdirAll(at(".new-x", "_data"), 0o755))
	must(t, os.MkdirAll(at(".gone-x", "_data"), 0o755))
	must(t, os.MkdirAll(at("half", "_fill.new", "a"), 0o755))
	must(t, os.MkdirAll(at("full", "_fill", "a"), 0o755))
	must(t, os.MkdirAll(at("full", "_fill", "b"), 0o755))
	must(t, os.MkdirAll(at("full", "_data", "b", "newer"), 0o755))
	must(t, os.MkdirAll(at("bad"), 0o755))
	s = open(t, dir)
	must(t, s.Close())
	got, err := s.Get("data")
	if err != nil || got.Path != v.Path || got.Options["type"] != "tmpfs" || !got.Created.Equal(v.Created) {
		t.Errorf("%+v %v", got, err)
	}
	if len(s.List()) != 3 {
		t.Errorf("%+v", s.List())
	}
	for name, want := range map[string]bool{
		".new-x": false, ".gone-x": false, "bad": true, "half/_fill.new": false, "half/_data": true, "half/_data/a": false,
		"full/_fill": false, "full/_data/a": true, "full/_data/b/newer": true,
	} {
		if _, err := os.Lstat(at(name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}

// tree makes a directory with all that a copy has to keep.
func tree(t *testing.T, dir string) {
	t.Helper()
	for i := range 30 {
		d := filepath.Join(dir, fmt.Sprint("d", i), "in")
		must(t, os.MkdirAll(d, 0o750))
		must(t, os.WriteFile(filepath.Join(d, "f"), []byte(strings.Repeat("x", i*9000)), 0o640))
	}
	p := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(p("suid"), []byte("s"), 0o755))
	must(t, os.Link(p("suid"), p("d1/again")))
	must(t, os.Link(p("suid"), p("d2/in/third")))
	must(t, os.Symlink("/no/where", p("link")))
	must(t, os.Symlink("../..", p("d3/up")))
	must(t, unix.Mkfifo(p("fifo"), 0o622))
	must(t, unix.Mknod(p("socket"), unix.S_IFSOCK|0o600, 0))
	must(t, unix.Setxattr(p("suid"), "user.note", []byte("hello"), 0))
	must(t, unix.Setxattr(p("d4"), "user.dir", []byte("yes"), 0))
	if nstest.Full() {
		must(t, os.Chown(p("d5"), 33, 34))
		must(t, os.Chown(p("suid"), 12, 13))
		must(t, os.Lchown(p("link"), 7, 8))
		must(t, os.Lchown(p("fifo"), 9, 10))
		var ability [20]byte // version 2, cap_net_bind_service
		binary.LittleEndian.PutUint32(ability[:], 0x02000001)
		binary.LittleEndian.PutUint32(ability[4:], 1<<10)
		must(t, unix.Setxattr(p("d6/in/f"), "security.capability", ability[:], 0))
	}
	must(t, unix.Chmod(p("suid"), 0o4755))
	must(t, unix.Chmod(p("d7"), 0o1777))
	old := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
	for _, name := range []string{"suid", "d8/in/f", "d8/in", "d8", "."} {
		must(t, os.Chtimes(p(name), old, old))
	}
}

// census describes every file of a tree, hard links by the first name.
func census(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	first := make(map[uint64]string)
	must(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(dir, name)
		line := fmt.Sprint(rel, " ", info.Mode(), " ", st.Uid, ":", st.Gid, " ", info.ModTime().UnixNano())
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(name)
			must(t, err)
			line += " -> " + to
		case info.Mode().IsRegular():
			text, err := os.ReadFile(name)
			must(t, err)
			line += fmt.Sprintf(" %d %d", len(text), st.Nlink)
			if have, ok := first[st.Ino]; ok {
				line += " = " + have
			}
			first[st.Ino] = rel
		}
		if info.Mode()&os.ModeSymlink == 0 {
			b := make([]byte, 1024)
			n, _ := unix.Llistxattr(name, b)
			for x := range strings.SplitSeq(string(b[:max(n, 0)]), "\x00") {
				if x == "" || x == "security.selinux" {
					continue
				}
				v := make([]byte, 256)
				n, err := unix.Lgetxattr(name, x, v)
				must(t, err)
				line += fmt.Sprintf(" %s=%q", x, v[:n])
			}
		}
		all = append(all, line)
		return nil
	}))
	return all
}

func TestFillKeepsAll(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v := create(t, s, "data")
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "srv/data"), 0o755))
	tree(t, filepath.Join(root, "srv/data"))
	must(t, os.Symlink("/srv/data", filepath.Join(root, "way"))) // of the root file system, not of the machine
	must(t, s.Fill(t.Context(), "data", moss.Mount{Path: root}, "/way"))
	want, got := census(t, filepath.Join(root, "srv/data")), census(t, v.Path)
	if !slices.Equal(want, got) {
		for i := range max(len(want), len(got)) {
			if i >= len(want) || i >= len(got) || want[i] != got[i] {
				t.Errorf("the copy differs:\n%q\nwant\n%q", got[min(i, len(got)):min(i+2, len(got))], want[min(i, len(want)):min(i+2, len(want))])
				break
			}
		}
	}
	if !nstest.Full() {
		t.Log("owners and capabilities were not tried: one id only")
	}
}

// A fill that is cut short leaves the volume empty.
func TestFillCancelled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v := create(t, s, "data")
	root := t.TempDir()
	tree(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Fill(ctx, "data", moss.Mount{Path: root}, "/"); err == nil {
		t.Error("a fill without time succeeded")
	}
	if have, err := os.ReadDir(v.Path); err != nil || len(have) > 0 {
		t.Errorf("%v %v", have, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "volumes/data/_fill.new")); err == nil {
		t.Error("the unfinished copy is left")
	}
}

func TestOptions(t *testing.T) {
	s := open(t, t.TempDir())
	for _, c := range []struct {
		options map[string]string
		class   moss.Class
		words   string
	}{
		{map[string]string{"what": "x"}, moss.Invalid, `invalid option: "what"`},
		{map[string]string{"o": "bind"}, moss.Invalid, "missing required option"},
		{map[string]string{"type": "tmpfs"}, moss.Invalid, `missing required option: "device"`},
		{map[string]string{"size": "1g"}, moss.NotImplemented, "quotas"},
		{map[string]string{"type": "nfs4", "device": ":/x", "o": "addr=192.0.2.1"}, moss.NotImplemented, "only root mount nfs4"},
		{map[string]string{"type": "ext4", "device": "/dev/x"}, moss.NotImplemented, "ext4"},
		{map[string]string{"type": "none", "device": "/x"}, moss.Invalid, "o=bind"},
		{map[string]string{"type": "none", "device": "x", "o": "bind"}, moss.Invalid, "absolute"},
	} {
		_, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "bad", Options: c.options})
		if err == nil || moss.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v: %v, want %s", c.options, err, c.words)
		}
	}
	if len(s.List()) > 0 {
		t.Error("a refused volume is there")
	}
}

func TestMounts(t *testing.T) {
	s := open(t, t.TempDir())
	shared, lower := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(shared, "f"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(lower, "low"), nil, 0o600))
	create(t, s, "mem", "type", "tmpfs", "device", "tmpfs", "o", "size=64k,mode=711,nosuid")
	create(t, s, "bind", "type", "none", "device", shared, "o", "bind,ro")
	create(t, s, "over", "type", "overlay", "device", "overlay", "o", "lowerdir="+lower+":"+shared)
	for name, check := range map[string]func(string) error{
		"mem": func(p string) error { _, err := os.Stat(p); return err },
		"bind": func(p string) error {
			if err := os.WriteFile(filepath.Join(p, "new"), nil, 0o600); err == nil {
				return fmt.Errorf("a read-only one takes files")
			}
			_, err := os.Stat(filepath.Join(p, "f"))
			return err
		},
		"over": func(p string) error { _, err := os.Stat(filepath.Join(p, "low")); return err },
	} {
		v, err := s.Get(name)
		must(t, err)
		for range 2 {
			must(t, s.Mount(t.Context(), name, "c"))
		}
		if err := check(v.Path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, s.Unmount(t.Context(), name, "c"))
		if have, err := os.ReadDir(v.Path); err != nil || len(have) > 0 {
			t.Errorf("%s: %v %v after unmount", name, have, err)
		}
		must(t, s.Mount(t.Context(), name, "c"))
		must(t, s.Remove(t.Context(), name)) // unmounts, and deletes nothing of the device's
	}
	must(t, s.Close())
	for _, f := range []string{filepath.Join(shared, "f"), filepath.Join(lower, "low")} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

// A thread that swaps a directory for a link gets nobody out of the volume.
func TestSubPathRace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v := create(t, s, "data")
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "sub/secret"), nil, 0o600))
	must(t, os.MkdirAll(filepath.Join(v.Path, "dir/sub"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(v.Path, "link")))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(v.Path, "dir"), unix.AT_FDCWD, filepath.Join(v.Path, "link"), unix.RENAME_EXCHANGE)
		}
	})
	id := moss.ContainerID(moss.NewHexID())
	point := moss.MountPoint{Type: moss.MountVolume, Name: "data", Source: v.Path, Target: "/t", SubPath: "dir/sub"}
	inside, refused := 0, 0
	for n := 0; n < 2000 || n < 1_000_000 && (inside == 0 || refused == 0); n++ {
		got, err := s.Expose(t.Context(), id, []moss.MountPoint{point})
		if err != nil {
			refused++
			continue
		}
		inside++
		if _, err := os.Stat(filepath.Join(got[0].Source, "secret")); err == nil {
			t.Fatal("the part leads out of the volume")
		}
	}
	cancel()
	wg.Wait()
	must(t, s.Conceal(t.Context(), id))
	if inside == 0 || refused == 0 {
		t.Errorf("%d inside, %d refused: no race took place", inside, refused)
	}
}
