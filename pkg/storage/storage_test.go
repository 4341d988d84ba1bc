package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cstorage "github.com/containers/storage"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
)

func TestMain(m *testing.M) {
	if Init() {
		return
	}
	nstest.Main(m)
}

// open opens a store at dir. What is left at the end fails the test.
func open(t *testing.T, dir, driver string) *Storage {
	t.Helper()
	s, err := Open(t.Context(), Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// image puts an image with one layer into the store.
func image(t *testing.T, s *Storage, files ...porttest.File) moss.ImageID {
	t.Helper()
	layer, _, err := s.Store().PutLayer("", "", nil, "", false, nil, bytes.NewReader(porttest.Tar(t, files...)))
	if err != nil {
		t.Fatal(err)
	}
	id := moss.NewHexID()
	if _, err := s.Store().CreateImage(id, nil, layer.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	return moss.ImageID("sha256:" + id)
}

var hello = porttest.File{Name: "hello", Text: "hello\n"}

func eachDriver(t *testing.T, test func(t *testing.T, driver string)) {
	for _, d := range []string{driverOverlay, fuseOverlayfs, driverVFS} {
		t.Run(d, func(t *testing.T) {
			if d == fuseOverlayfs {
				if _, err := (machine{}).fuse(t.Context(), t.TempDir(), ""); err != nil {
					t.Skip("fuse-overlayfs does not work here:", err)
				}
			}
			test(t, d)
		})
	}
}

func TestRootfs(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		porttest.Rootfs(t, func(t *testing.T) porttest.RootfsFixture {
			s := open(t, t.TempDir(), driver)
			t.Cleanup(func() { wantNoMounts(t, s.store.GraphRoot()) })
			return porttest.RootfsFixture{Rootfs: s, Image: image(t, s, hello)}
		})
	})
}

func TestRootfsFiles(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		porttest.RootfsFiles(t, func(t *testing.T) porttest.RootfsFixture {
			s := open(t, t.TempDir(), driver)
			return porttest.RootfsFixture{Rootfs: s, Image: image(t, s, hello)}
		})
	})
}

// A volatile layer is a layer like another, but for the loss of power.
type volatile struct{ *Storage }

func (v volatile) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	return v.CreateVolatile(ctx, id, image)
}

func TestVolatile(t *testing.T) {
	porttest.Rootfs(t, func(t *testing.T) porttest.RootfsFixture {
		s := open(t, t.TempDir(), driverOverlay)
		t.Cleanup(func() { wantNoMounts(t, s.store.GraphRoot()) })
		return porttest.RootfsFixture{Rootfs: volatile{s}, Image: image(t, s, hello)}
	})
	// A restart of the daemon keeps it; a mount that was lost with the namespace comes again.
	dir := t.TempDir()
	s := open(t, dir, driverOverlay)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.CreateVolatile(t.Context(), id, image(t, s, hello)))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || !strings.Contains(string(b), "volatile") {
		t.Errorf("the mount is not volatile (%v)", err)
	}
	must(t, unix.Unmount(m.Path, unix.MNT_DETACH))
	must(t, s.Close())
	s = open(t, dir, "")
	if ids, err := s.List(t.Context()); err != nil || len(ids) != 1 {
		t.Errorf("List is %v, %v", ids, err)
	}
	_, err = s.Mount(t.Context(), id)
	must(t, err)
	must(t, s.Remove(t.Context(), id))
	wantNoMounts(t, dir)
}

func wantNoMounts(t *testing.T, below string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if strings.Contains(line, " "+below) {
			t.Errorf("a mount is left: %s", line)
		}
	}
}

func TestDriverIsChosenByTrying(t *testing.T) {
	s := open(t, t.TempDir(), "")
	if i := s.Info(); i.Driver != driverOverlay || s.MountProgram() != "" || len(i.Status) < 4 {
		t.Errorf("Info is %+v", i)
	}
	t.Logf("%+v", s.Info())
}

// fakeMachine is a machine where some drivers work.
type fakeMachine struct{ nativeErr, fuseErr error }

func (m fakeMachine) native(string) error { return m.nativeErr }
func (m fakeMachine) fuse(_ context.Context, _, program string) (string, error) {
	return cmp.Or(program, "/usr/bin/fuse-overlayfs"), m.fuseErr
}

func TestChoose(t *testing.T) {
	no := errors.New("does not work")
	for _, c := range []struct {
		name, prior, want string
		m                 fakeMachine
		t                 tuning
		driver, why       string // driver is an error's class where why is its text
		fails             bool
	}{
		{name: "best", driver: "overlay", why: "the kernel mounts"},
		{name: "no native", m: fakeMachine{nativeErr: no}, driver: "fuse-overlayfs", why: "does not work"},
		{name: "neither", m: fakeMachine{no, no}, driver: "vfs", why: "copies its whole image"},
		{name: "asked", want: "vfs", driver: "vfs", why: "asked"},
		{name: "docker's name", want: "overlay2", driver: "overlay", why: "asked"},
		{name: "asked fuse", want: "fuse-overlayfs", driver: "fuse-overlayfs", why: "asked"},
		{name: "asked, cannot", want: "overlay", m: fakeMachine{nativeErr: no}, fails: true, driver: "unavailable", why: "does not work"},
		{name: "unknown", want: "zfs", fails: true, driver: "invalid", why: `"zfs"`},
		{name: "program", t: tuning{mountProgram: "/opt/fuse"}, driver: "fuse-overlayfs", why: "mount_program was given"},
		{name: "program that fails", t: tuning{mountProgram: "/opt/fuse"}, m: fakeMachine{fuseErr: no}, fails: true, driver: "unavailable", why: "mount_program was given"},
		{name: "program for vfs", want: "vfs", t: tuning{mountProgram: "/opt/fuse"}, fails: true, driver: "invalid", why: "no storage options"},
		{name: "options of vfs", m: fakeMachine{no, no}, t: tuning{mountOptions: "nodev"}, fails: true, driver: "invalid", why: "no storage options"},
		{name: "prior vfs", prior: "vfs", driver: "vfs", why: "images that are there"},
		{name: "prior fuse", prior: "fuse-overlayfs", driver: "fuse-overlayfs", why: "images that are there"},
		{name: "prior fuse gone", prior: "fuse-overlayfs", m: fakeMachine{fuseErr: no}, fails: true, driver: "unavailable", why: "images that are there"},
		{name: "prior fuse, asked native", prior: "fuse-overlayfs", want: "overlay", fails: true, driver: "conflict", why: "cannot use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if c.prior != "" {
				driver := strings.TrimPrefix(c.prior, "fuse-")
				driver = strings.TrimSuffix(driver, "fs")
				if c.prior == "vfs" {
					driver = "vfs"
				}
				for name, text := range map[string]string{driver + "-images/images.json": `[{"id":"x"}]`, driver + "/.has-mount-program": map[bool]string{true: "true", false: "false"}[c.prior == fuseOverlayfs]} {
					if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := choose(t.Context(), root, c.want, c.t, c.m)
			if c.fails {
				if err == nil || moss.ClassOf(err).String() != c.driver || !strings.Contains(err.Error(), c.why) {
					t.Errorf("choose gives %+v, %v", got, err)
				}
				return
			}
			if err != nil || got.name() != c.driver || !strings.Contains(got.why, c.why) {
				t.Errorf("choose gives %+v, %v", got, err)
			}
		})
	}
}

// A daemon that was killed is followed by one that finds its mounts, or finds
// them gone with the namespace.
func TestMountsAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, driverOverlay)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image(t, s, hello)))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	must(t, s.Close())

	s = open(t, dir, "")
	again, err := s.Mount(t.Context(), id)
	must(t, err)
	if again != m {
		t.Errorf("the mount is %v, was %v", again, m)
	}
	// The holder of the namespace was stopped: the count on disk stays, the mount does not.
	must(t, unix.Unmount(m.Path, unix.MNT_DETACH))
	must(t, s.Close())
	s = open(t, dir, "")
	m, err = s.Mount(t.Context(), id)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(m.Path, "hello")); string(b) != "hello\n" {
		t.Errorf("hello is %q, %v", b, err)
	}
	must(t, unix.Unmount(m.Path, unix.MNT_DETACH))
	must(t, s.Unmount(t.Context(), id))
	// A reboot empties the run root.
	_, err = s.Mount(t.Context(), id)
	must(t, err)
	must(t, unix.Unmount(m.Path, unix.MNT_DETACH))
	must(t, s.Close())
	must(t, os.RemoveAll(filepath.Join(dir, "run")))
	s = open(t, dir, "")
	must(t, s.Unmount(t.Context(), id))
	_, err = s.Mount(t.Context(), id)
	must(t, err)
	must(t, s.Remove(t.Context(), id))
	wantNoMounts(t, dir)
}

// A process that dies by SIGKILL at any moment leaves a store in which all that
// is listed works, and nothing else is on disk.
func TestKillInTheMiddle(t *testing.T) {
	const env = "_MOSS_CRASH_DIR"
	if dir := os.Getenv(env); dir != "" {
		work(t, open(t, dir, driverOverlay))
	}
	dir := t.TempDir()
	for n := range 20 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKillInTheMiddle$")
		cmd.Env = append(os.Environ(), env+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		buf := make([]byte, 64)
		k, err := out.Read(buf)
		if err != nil || !strings.Contains(string(buf[:k]), "ready") {
			t.Fatalf("the child says %q, %v", buf[:k], err)
		}
		<-time.After(time.Duration(n*n) * 200 * time.Microsecond) // another point of its work each time
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		s := open(t, dir, "")
		wantSound(t, s)
		must(t, s.Close())
	}
}

// work makes and removes containers and images for ever.
func work(t *testing.T, s *Storage) {
	t.Helper()
	for i := 0; ; i++ {
		im := image(t, s, hello, porttest.File{Name: "round", Text: strconv.Itoa(i)})
		id, other := moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID())
		must(t, s.Create(t.Context(), id, im))
		must(t, s.CreateVolatile(t.Context(), other, im))
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(m.Path, "mine"), []byte(id), 0o600))
		if i == 0 {
			_, _ = os.Stdout.WriteString("ready\n")
		}
		r, err := s.Diff(t.Context(), id)
		must(t, err)
		made := onTop(t, s, im, r)
		must(t, s.Remove(t.Context(), other))
		must(t, s.Remove(t.Context(), id))
		for _, im := range []moss.ImageID{made, im} {
			_, err := s.store.DeleteImage(strings.TrimPrefix(string(im), "sha256:"), true)
			must(t, err)
		}
	}
}

// wantSound uses all that a store has and removes it again.
func wantSound(t *testing.T, s *Storage) {
	t.Helper()
	if found, err := s.check(t.Context(), time.Time{}.Add(1)); err != nil || len(found) != 0 || len(s.report.found) != 0 {
		t.Errorf("a check finds %q, %v; at the start %q", found, err, s.report.found)
	}
	ids, err := s.List(t.Context())
	must(t, err)
	for _, id := range ids {
		// In the middle of being removed its files may be gone already.
		m, err := s.Mount(t.Context(), id)
		if err == nil {
			if b, err := os.ReadFile(filepath.Join(m.Path, "hello")); string(b) != "hello\n" {
				t.Errorf("hello is %q, %v", b, err)
			}
		}
		must(t, s.Remove(t.Context(), id))
	}
	all, err := s.store.MultiList(cstorage.MultiListOptions{Layers: true, Images: true})
	must(t, err)
	for _, im := range all.Images {
		id := moss.ContainerID(moss.NewHexID())
		must(t, s.Create(t.Context(), id, moss.ImageID("sha256:"+im.ID)))
		_, err := s.Mount(t.Context(), id)
		must(t, err)
		must(t, s.Remove(t.Context(), id))
		_, err = s.store.DeleteImage(im.ID, true)
		must(t, err)
	}
	// At most what was between layer and record, which pkg/image sweeps.
	all, err = s.store.MultiList(cstorage.MultiListOptions{Layers: true})
	must(t, err)
	if len(all.Layers) > 2 {
		t.Errorf("%d layers are nobody's", len(all.Layers))
	}
	for _, l := range slices.Backward(all.Layers) {
		must(t, s.store.DeleteLayer(l.ID))
	}
	wantEmptyScrap(t, s)
	for _, dir := range []string{"overlay", "overlay/l", "overlay/staging", "overlay/tempdirs", "overlay-layers/tmp", "overlay-images", "overlay-containers"} {
		left, _ := os.ReadDir(filepath.Join(s.store.GraphRoot(), dir)) // it may not be there
		for _, e := range left {
			if e.IsDir() && len(e.Name()) >= 32 || e.Type()&os.ModeSymlink != 0 && filepath.Ext(e.Name()) != ".lock" || strings.HasPrefix(e.Name(), "temp-dir-") {
				t.Errorf("%s/%s is left", dir, e.Name())
			}
		}
	}
	wantNoMounts(t, s.store.GraphRoot())
}

// Ids other than root's are kept as they are: nothing is shifted.
func TestOwnersAreKept(t *testing.T) {
	if !nstest.Full() {
		t.Skip("only one id is mapped here")
	}
	s := open(t, t.TempDir(), "")
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image(t, s, hello, porttest.File{Name: "theirs", UID: 1000, GID: 33})))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(m.Path, "theirs"), &st))
	if st.Uid != 1000 || st.Gid != 33 {
		t.Errorf("owner is %d:%d, want 1000:33", st.Uid, st.Gid)
	}
	must(t, s.Remove(t.Context(), id))
}

func TestConfigurationOfTheLibraryIsNotRead(t *testing.T) {
	// The library reads it once a process: a child has a first time.
	if os.Getenv("CONTAINERS_STORAGE_CONF") != "" {
		open(t, t.TempDir(), "")
		return
	}
	bad := filepath.Join(t.TempDir(), "storage.conf")
	must(t, os.WriteFile(bad, []byte("this is not TOML ["), 0o600))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestConfigurationOfTheLibraryIsNotRead$")
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+bad)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(b.Context(), Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run")})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}

func BenchmarkContainer(b *testing.B) { benchmarkContainer(b, (*Storage).Create) }

func BenchmarkVolatileContainer(b *testing.B) { benchmarkContainer(b, (*Storage).CreateVolatile) }

func benchmarkContainer(b *testing.B, create func(*Storage, context.Context, moss.ContainerID, moss.ImageID) error) {
	dir := b.TempDir()
	s, err := Open(b.Context(), Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	id := moss.NewHexID()
	if _, err := s.Store().CreateImage(id, nil, "", "", nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := moss.ContainerID(moss.NewHexID())
		err := create(s, b.Context(), c, moss.ImageID("sha256:"+id))
		if err == nil {
			_, err = s.Mount(b.Context(), c)
		}
		if err = errors.Join(err, s.Unmount(b.Context(), c), s.Remove(b.Context(), c)); err != nil {
			b.Fatal(err)
		}
	}
}

// Only an overlay has its label by its mount.
func TestNoLabelWithoutOverlay(t *testing.T) {
	s := open(t, t.TempDir(), driverVFS)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image(t, s, hello)))
	if _, err := s.MountLabelled(t.Context(), id, "u:object_r:t:s0"); moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("%v, want NotImplemented", err)
	}
	must(t, s.Remove(t.Context(), id))
}
