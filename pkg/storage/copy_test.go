package storage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestContainerPaths(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		porttest.ContainerPaths(t, func(t *testing.T) porttest.RootfsFixture {
			s := open(t, t.TempDir(), driver)
			t.Cleanup(func() { wantNoMounts(t, s.store.GraphRoot()) })
			return porttest.RootfsFixture{Rootfs: s, Image: image(t, s, hello)}
		})
	})
}

// box is a mounted container.
type box struct {
	*Storage
	t *testing.T
	w moss.View
}

func newBox(t *testing.T, driver string, files ...porttest.File) *box {
	t.Helper()
	s := open(t, t.TempDir(), driver)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image(t, s, append(files, hello)...)))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	t.Cleanup(func() { must(t, s.Remove(context.Background(), id)) })
	return &box{Storage: s, t: t, w: moss.View{Container: id, Rootfs: m}}
}

// at is a path as the engine's own namespace has it.
func (b *box) at(name string) string { return filepath.Join(b.w.Rootfs.Path, name) }

func (b *box) unpack(dir string, o moss.UnpackOptions, entries ...tar.Header) error {
	return b.Unpack(b.t.Context(), b.w, dir, bytes.NewReader(tarOf(b.t, entries...)), o)
}

// tarOf makes a tar; a regular file's content is in its Linkname.
func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		text := ""
		if h.Typeflag == tar.TypeReg {
			text, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, text)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

func regular(name, text string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: text}
}

// names packs a path and gives what is in the tar, with links' targets.
func (b *box) names(name string) []string {
	b.t.Helper()
	_, r, err := b.Pack(b.t.Context(), b.w, name)
	must(b.t, err)
	var out []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(b.t, err)
		if h.Linkname != "" {
			h.Name += ">" + h.Linkname
		}
		out = append(out, h.Name)
	}
	must(b.t, r.Close())
	return out
}

func TestPackNames(t *testing.T) {
	b := newBox(t, driverOverlay)
	must(t, os.MkdirAll(b.at("d/sub"), 0o755))
	must(t, os.WriteFile(b.at("d/f"), nil, 0o600))
	must(t, os.Link(b.at("d/f"), b.at("d/sub/g")))
	must(t, os.Symlink("/d", b.at("abs")))
	must(t, os.Symlink("../../../..", b.at("d/up")))
	for name, want := range map[string][]string{
		"/d": {"d/", "d/f", "d/sub/", "d/sub/g>d/f", "d/up>../../../.."}, "/d/": {"d/", "d/f", "d/sub/", "d/sub/g>d/f", "d/up>../../../.."},
		"/d/.": {"./", "./f", "./sub/", "./sub/g>./f", "./up>../../../.."}, "/abs": {"abs>/d"}, "abs/sub": {"sub/", "sub/g"},
		"/abs/":       {"abs/", "abs/f", "abs/sub/", "abs/sub/g>abs/f", "abs/up>../../../.."},
		"/d/up/hello": {"hello"}, "/../hello": {"hello"}, "d/sub/../f": {"f"},
		"/": {"/", "/abs>/d", "/d/", "/d/f", "/d/sub/", "/d/sub/g>/d/f", "/d/up>../../../..", "/hello"},
	} {
		if got := b.names(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestStatLinks(t *testing.T) {
	b := newBox(t, driverOverlay)
	must(t, os.MkdirAll(b.at("d"), 0o755))
	for name, to := range map[string]string{
		"abs": "/d", "rel": "d/../hello", "out": "../../../../etc", "gone": "/no/such", "loop": "loop", "chain": "abs/new",
	} {
		must(t, os.Symlink(to, b.at(name)))
	}
	for name, want := range map[string]string{"/abs": "/d", "rel": "/hello", "/out": "/etc", "/gone": "/no/such", "/chain": "/d/new"} {
		st, err := b.Stat(t.Context(), b.w, name)
		if err != nil || st.LinkTarget != want || st.Mode&os.ModeSymlink == 0 || st.Name != filepath.Base(name) {
			t.Errorf("%s: %+v, %v, want %s", name, st, err, want)
		}
	}
	if _, err := b.Stat(t.Context(), b.w, "/loop"); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("a loop gives %v", err)
	}
	if st, err := b.Stat(t.Context(), b.w, "/abs/"); err != nil || !st.Mode.IsDir() || st.Name != "abs" {
		t.Errorf("/abs/: %+v, %v", st, err)
	}
	if _, err := b.Stat(t.Context(), b.w, "/hello/x"); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("below a file: %v", err)
	}
}

func TestUnpackKinds(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	b := newBox(t, driverOverlay)
	at := time.Unix(1e9, 0)
	must(t, b.unpack("/", moss.UnpackOptions{},
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o2750, Uid: 5, Gid: 6, ModTime: at},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Linkname: "text", Mode: 0o4755, Uid: 7, Gid: 8, ModTime: at, PAXRecords: map[string]string{paxXattr + "user.k": "v"}},
		tar.Header{Typeflag: tar.TypeLink, Name: "implied/by/link", Linkname: "d/f"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "d/s", Linkname: "../../../outside", Uid: 9, Gid: 9, ModTime: at},
		tar.Header{Typeflag: tar.TypeFifo, Name: "d/p", Mode: 0o622, Uid: 1, Gid: 2, ModTime: at}))
	want := map[string]string{
		"d": "2750 5:6 40000", "d/f": "4755 7:8 100000", "implied/by/link": "4755 7:8 100000", "d/s": "777 9:9 120000", "d/p": "622 1:2 10000",
		"implied": "755 0:0 40000",
	}
	for name, w := range want {
		var st unix.Stat_t
		must(t, unix.Lstat(b.at(name), &st))
		if got := fmt.Sprintf("%o %d:%d %o", st.Mode&0o7777, st.Uid, st.Gid, st.Mode&unix.S_IFMT); got != w {
			t.Errorf("%s is %s, want %s", name, got, w)
		}
		if name != "implied" && st.Mtim.Sec != at.Unix() {
			t.Errorf("%s is of %d", name, st.Mtim.Sec)
		}
	}
	var v [8]byte
	if n, err := unix.Getxattr(b.at("d/f"), "user.k", v[:]); err != nil || string(v[:n]) != "v" {
		t.Errorf("the attribute is %q, %v", v[:n], err)
	}
	err := b.unpack("/", moss.UnpackOptions{}, tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, regular("after", "x"))
	if moss.ClassOf(err) != moss.Forbidden || !strings.Contains(err.Error(), "/null") {
		t.Errorf("a device gives %v", err)
	}
	if _, err := os.Stat(b.at("after")); err != nil {
		t.Error("what came after the device is not there")
	}
}

func TestUnpackOver(t *testing.T) {
	b := newBox(t, driverOverlay)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("precious"), 0o600))
	must(t, os.MkdirAll(b.at("dir/in"), 0o755))
	must(t, os.Symlink(outside, b.at("link")))
	must(t, os.Symlink(outside+"/precious", b.at("flink")))
	keep := moss.UnpackOptions{KeepKinds: true}
	for _, bad := range []struct {
		h    tar.Header
		o    moss.UnpackOptions
		want string
	}{
		{regular("dir", "x"), keep, `cannot overwrite directory "/dir" with non-directory "/"`},
		{tar.Header{Typeflag: tar.TypeDir, Name: "hello"}, keep, `cannot overwrite non-directory "/hello" with directory "/"`},
		{regular("../x", "x"), keep, "outside of"},
		{regular("a/../../x", "x"), keep, "outside of"},
		{tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "../../etc/passwd"}, keep, "outside of"},
		{regular("hello/x", "x"), keep, "not a directory"},
		{tar.Header{Typeflag: 'Z', Name: "odd"}, keep, "unknown type"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "far", Uid: 1 << 30}, keep, "/etc/subuid"},
	} {
		if err := b.unpack("/", bad.o, bad.h); err == nil || !strings.Contains(err.Error(), bad.want) || moss.ClassOf(err) == moss.Unavailable {
			t.Errorf("%+v gives %v", bad.h, err)
		}
	}
	// A link in a name's way is followed in the container: there it leads to nothing.
	if err := b.unpack("/", keep, regular("link/precious", "stolen")); err == nil {
		t.Error("a link that leads to nothing was followed somewhere")
	}
	// Links are replaced, not written through; also one that the tar has brought.
	must(t, b.unpack("/", keep, regular("flink", "mine"),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: outside}, tar.Header{Typeflag: tar.TypeSymlink, Name: "t", Linkname: "/dir"}, regular("t/through", "x")))
	must(t, b.unpack("/", moss.UnpackOptions{}, regular("dir", "now a file"), tar.Header{Typeflag: tar.TypeDir, Name: "link", Mode: 0o700}, regular("link/precious", "inside")))
	for name, text := range map[string]string{b.at("flink"): "mine", b.at("dir"): "now a file", b.at("link/precious"): "inside", outside + "/precious": "precious"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("outside there is now %v, %v", list, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(outside+"/precious", &st))
	if st.Mode&0o777 != 0o600 {
		t.Errorf("the mode of what is outside is %o", st.Mode)
	}
}

func TestUnpackCompressedOwned(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	b := newBox(t, driverOverlay, porttest.File{Name: "etc/passwd", Text: "root:x:0:0::/:\nweb:x:33:34::/:\n"}, porttest.File{Name: "etc/group", Text: "staff:x:50:\n"})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(tarOf(t, regular("zipped", "text")))
	must(t, errors.Join(err, z.Close()))
	for owner, want := range map[string]string{"web": "33:34", "33": "33:34", "web:staff": "33:50", "77": "77:0", ":50": "0:50", "12:13": "12:13"} {
		must(t, b.Unpack(t.Context(), b.w, "/", bytes.NewReader(zipped.Bytes()), moss.UnpackOptions{Owner: owner}))
		var st unix.Stat_t
		must(t, unix.Stat(b.at("zipped"), &st))
		if got := fmt.Sprintf("%d:%d", st.Uid, st.Gid); got != want {
			t.Errorf("for %s the owner is %s, want %s", owner, got, want)
		}
	}
	if err := b.unpack("/", moss.UnpackOptions{Owner: "nobody-there"}); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("an unknown owner gives %v", err)
	}
	for _, bad := range [][]byte{[]byte("no tar at all, but long enough to be taken for the beginning of one"), tarOf(t, regular("f", "text"))[:514], zipped.Bytes()[:40]} {
		if err := b.Unpack(t.Context(), b.w, "/", bytes.NewReader(bad), moss.UnpackOptions{}); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("a bad tar gives %v", err)
		}
	}
}

// A container's mounts are in the way where it does not run, too.
func TestViewMounts(t *testing.T) {
	b := newBox(t, driverOverlay)
	src, ro := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(ro+"/f", []byte("text"), 0o600))
	b.w.Mounts = []moss.MountPoint{
		{Type: moss.MountBind, Source: ro, Target: "/data/ro", ReadOnly: true},
		{Type: moss.MountBind, Source: src, Target: "/data"},
		{Type: moss.MountBind, Source: ro + "/f", Target: "/etc/single"},
		{Type: moss.MountTmpfs, Target: "/tmp"},
	}
	must(t, b.unpack("/data", moss.UnpackOptions{}, regular("new", "x")))
	if _, err := os.Stat(src + "/new"); err != nil {
		t.Error(err)
	}
	if err := b.unpack("/data/ro", moss.UnpackOptions{}, regular("new", "x")); moss.ClassOf(err) != moss.Invalid || err.Error() != "mounted volume is marked read-only" {
		t.Errorf("writing to a read-only mount gives %v", err)
	}
	if err := b.unpack("/data", moss.UnpackOptions{}, regular("ro/new", "x")); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing below a read-only mount gives %v", err)
	}
	// What is mounted is not replaced, nor what has a mount in it.
	for _, name := range []string{"data", "etc/single", "etc", "data/ro"} {
		if err := b.unpack("/", moss.UnpackOptions{}, regular(name, "x")); !errors.Is(err, unix.EBUSY) {
			t.Errorf("replacing %s gives %v", name, err)
		}
	}
	if got := b.names("/data"); !slices.Equal(got, []string{"data/", "data/new", "data/ro/", "data/ro/f"}) {
		t.Errorf("the tar has %q", got)
	}
	b.w.ReadOnly = true
	if err := b.unpack("/", moss.UnpackOptions{}, regular("new", "x")); moss.ClassOf(err) != moss.Invalid || err.Error() != "container rootfs is marked read-only" {
		t.Errorf("writing to a read-only root gives %v", err)
	}
	must(t, b.unpack("/data", moss.UnpackOptions{}, regular("new2", "x")))
	b.w.ReadOnly = false
	b.w.Mounts = []moss.MountPoint{{Type: moss.MountBind, Source: src + "/none", Target: "/x"}}
	if _, err := b.Stat(t.Context(), b.w, "/"); !errors.Is(err, unix.ENOENT) || moss.ClassOf(err) == moss.NotFound {
		t.Errorf("a source that is gone gives %v", err)
	}
	b.w.Mounts[0].CreateSource = true
	must(t, b.unpack("/x", moss.UnpackOptions{}, regular("new", "x")))
}

// process is a thread that stands for a container's process: in a mount
// namespace whose root is the container's, with a tmpfs that nobody else sees.
func (b *box) process() {
	b.t.Helper()
	ready, done := make(chan error), make(chan struct{})
	pid := 0
	var run func()
	run = func() {
		runtime.LockOSThread()
		if pid = unix.Gettid(); pid == os.Getpid() { // see onThread
			go run()
			<-done
			runtime.UnlockOSThread()
			return
		}
		ready <- func() error {
			if err := ownNamespace(); err != nil {
				return err
			}
			root, err := cloneTree(b.w.Rootfs.Path, 0)
			if err != nil {
				return err
			}
			defer root.Close()
			if err := switchRoot(root, b.w.Rootfs.Path); err != nil {
				return err
			}
			for _, dir := range []string{"/proc", "/proc/sys", "/tmp"} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
				if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
					return err
				}
			}
			return errors.Join(os.WriteFile("/tmp/mine", []byte("text"), 0o600), os.WriteFile("/proc/secret", []byte("text"), 0o600))
		}()
		<-done
	}
	go run()
	b.t.Cleanup(func() { close(done) })
	must(b.t, <-ready)
	b.w.PID = pid
}

func TestViewOfProcess(t *testing.T) {
	b := newBox(t, driverOverlay)
	b.process()
	must(t, b.unpack("/tmp", moss.UnpackOptions{}, regular("new", "x")))
	if got := b.names("/"); !slices.Equal(got, []string{"/", "/hello", "/proc/", "/tmp/", "/tmp/mine", "/tmp/new"}) {
		t.Errorf("the tar has %q", got)
	}
	if err := b.unpack("/", moss.UnpackOptions{}, regular("tmp", "x")); !errors.Is(err, unix.EBUSY) {
		t.Errorf("replacing a mount gives %v", err)
	}
	// Another's process is not believed.
	for _, pid := range []int{os.Getpid(), 1 << 22} {
		b.w.PID = pid
		if got := b.names("/tmp"); !slices.Equal(got, []string{"tmp/"}) {
			t.Errorf("the tar has %q", got)
		}
	}
}

// A container swaps directories and links to the outside while files are copied
// in and out: nothing outside is touched, and nothing of it comes out.
func TestSwappedLinks(t *testing.T) {
	b := newBox(t, driverOverlay)
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/f", []byte("precious"), 0o600))
	must(t, os.Mkdir(b.at("real"), 0o755))
	must(t, os.WriteFile(b.at("real/f"), []byte("mine"), 0o644))
	must(t, os.Symlink(outside, b.at("trap")))
	must(t, os.Rename(b.at("real"), b.at("d")))
	real, err := os.Open(b.at("d"))
	must(t, err)
	defer func() { _ = real.Close() }()
	stop, swapped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swapped <- n
				return
			default:
			}
			if unix.Renameat2(unix.AT_FDCWD, b.at("d"), unix.AT_FDCWD, b.at("trap"), unix.RENAME_EXCHANGE) == nil {
				n++
			}
			_ = unix.Unlinkat(int(real.Fd()), "p", 0)
			_ = unix.Symlinkat(outside+"/f", int(real.Fd()), "p")
		}
	}()
	worked := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) || worked < 100; { // however busy the machine is
		for _, h := range []tar.Header{regular("d/f", "stolen"), {Typeflag: tar.TypeFifo, Name: "d/p", Mode: 0o777}, {Typeflag: tar.TypeDir, Name: "d", Mode: 0o777}} {
			if b.unpack("/", moss.UnpackOptions{KeepKinds: true}, h) == nil {
				worked++
			}
		}
		if b.unpack("/d", moss.UnpackOptions{}, regular("f", "stolen")) == nil {
			worked++
		}
		for _, name := range []string{"/d", "/d/f", "/d/"} {
			_, r, err := b.Pack(t.Context(), b.w, name)
			if err != nil {
				continue
			}
			var all bytes.Buffer
			_, _ = io.Copy(&all, r) // it may have gone
			must(t, r.Close())
			if strings.Contains(all.String(), "precious") {
				t.Fatalf("%s gives what is outside", name)
			}
			worked++
		}
	}
	close(stop)
	if n := <-swapped; n < 100 || worked < 100 {
		t.Errorf("%d swaps, %d copies: too few to tell", n, worked)
	}
	list, err := os.ReadDir(outside)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(outside+"/f", &st))
	text, err := os.ReadFile(outside + "/f")
	if err != nil || len(list) != 1 || string(text) != "precious" || st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("outside there is now %v, %q, mode %o, %v", list, text, st.Mode, err)
	}
	must(t, unix.Stat(outside, &st))
	if st.Mode&0o777 == 0o777 {
		t.Error("the mode of the directory outside was changed")
	}
}

// A large file goes through in little memory.
func TestLargeCopy(t *testing.T) {
	b := newBox(t, driverOverlay)
	const size = 256 << 20
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o600, Size: size})
		if err == nil {
			_, err = io.Copy(tw, io.LimitReader(zeros{}, size))
		}
		_ = w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, b.Unpack(t.Context(), b.w, "/", r, moss.UnpackOptions{}))
	_, out, err := b.Pack(t.Context(), b.w, "/big")
	must(t, err)
	n, err := io.Copy(io.Discard, out)
	must(t, errors.Join(err, out.Close()))
	runtime.ReadMemStats(&after)
	if n < size {
		t.Errorf("%d bytes came out", n)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("copying took %d bytes of memory", grown)
	}
}

func TestChangesKinds(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		b := newBox(t, driver, porttest.File{Name: "etc/a", Text: "a"}, porttest.File{Name: "etc/sub/b", Text: "b"}, porttest.File{Name: "again/x", Text: "x"}, porttest.File{Name: "kind/x", Text: "x"})
		must(t, os.WriteFile(b.at("etc/a"), []byte("changed"), 0o600))
		must(t, os.Remove(b.at("etc/sub/b")))
		must(t, os.MkdirAll(b.at("new/deep"), 0o755))
		must(t, os.WriteFile(b.at("new/deep/f"), nil, 0o600))
		must(t, os.RemoveAll(b.at("again")))
		must(t, os.Mkdir(b.at("again"), 0o755))
		must(t, os.WriteFile(b.at("again/y"), nil, 0o600))
		must(t, os.RemoveAll(b.at("kind")))
		must(t, os.WriteFile(b.at("kind"), nil, 0o600))
		must(t, os.Remove(b.at("hello")))
		must(t, os.MkdirAll(b.at("proc"), 0o755)) // the runtime's
		must(t, os.WriteFile(b.at("etc/hosts"), nil, 0o644))
		list, err := b.Changes(t.Context(), b.w.Container)
		must(t, err)
		var got []string
		for _, c := range list {
			got = append(got, "CAD"[c.Kind:c.Kind+1]+" "+c.Path)
		}
		slices.Sort(got)
		want := []string{
			"A /again/y", "A /new", "A /new/deep", "A /new/deep/f",
			"C /again", "C /etc", "C /etc/a", "C /etc/sub", "C /kind", "D /again/x", "D /etc/sub/b", "D /hello",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	})
}

// What the runtime makes to mount on is nobody's change.
func TestChangesOfTheRuntime(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, files := range [][]porttest.File{nil, {{Name: "etc/passwd"}}} {
			b := newBox(t, driver, files...)
			for _, dir := range []string{"proc", "sys", "dev", "etc"} {
				must(t, os.MkdirAll(b.at(dir), 0o755))
			}
			for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
				must(t, os.WriteFile(b.at("etc/"+name), nil, 0o644))
			}
			if list, err := b.Changes(t.Context(), b.w.Container); err != nil || len(list) != 0 {
				t.Errorf("got %v, %v", list, err)
			}
		}
	})
}

func TestPackEnds(t *testing.T) {
	b := newBox(t, driverOverlay)
	must(t, os.WriteFile(b.at("big"), make([]byte, 1<<20), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	_, r, err := b.Pack(ctx, b.w, "/big")
	must(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the end of the context gives %v", err)
	}
	must(t, r.Close())
	if err := b.Unpack(ctx, b.w, "/", bytes.NewReader(nil), moss.UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("writing after the end of the context gives %v", err)
	}
}

// A start may replace /etc/hosts while somebody copies.
func TestViewOfFilesThatAreReplaced(t *testing.T) {
	b := newBox(t, driverOverlay)
	hosts := filepath.Join(t.TempDir(), "hosts")
	must(t, os.WriteFile(hosts, nil, 0o644))
	b.w.Mounts = []moss.MountPoint{{Type: moss.MountBind, Source: hosts, Target: "/etc/hosts"}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			if err = os.WriteFile(hosts+".new", nil, 0o644); err == nil {
				err = os.Rename(hosts+".new", hosts)
			}
		}
		done <- err
	}()
	for range 50 {
		v, err := openView(t.Context(), b.w)
		if err != nil {
			t.Error(err)
			break
		}
		v.Close()
	}
	cancel()
	must(t, <-done)
}
