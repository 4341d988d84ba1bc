package image

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"github.com/moby/sys/mountinfo"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/moss"
	testreg "github.com/moss-containers/moss/tests/registry"
)

const (
	killDir = "_MOSS_PULL_DIR"
	killRef = "_MOSS_PULL_REF"
)

// openReal is a store that pulls from real registries.
func openReal(t testing.TB, dir string) *Store {
	t.Helper()
	c, err := registry.New(registry.Options{TempDir: filepath.Join(dir, "reg"), ConfigDir: filepath.Join(dir, "none"), EtcDir: filepath.Join(dir, "none")})
	must(t, err)
	s, err := New(rawStore(t, dir), Options{TempDir: filepath.Join(dir, "tmp"), Registry: c})
	must(t, err)
	t.Cleanup(func() { _ = s.reaper.wait(t.Context()) })
	return s
}

// The process that TestPullKilled kills.
func TestPullKilledChild(t *testing.T) {
	if os.Getenv(killDir) == "" {
		return
	}
	s := openReal(t, os.Getenv(killDir))
	fmt.Println("begins")
	_, _, err := pull(t, s, os.Getenv(killRef))
	must(t, err)
}

// pullKilled pulls in a process that is killed after some time; it tells how long the pull went on.
func pullKilled(t *testing.T, dir, ref string, after time.Duration) time.Duration {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestPullKilledChild$", "-test.v")
	cmd.Env = append(os.Environ(), killDir+"="+dir, killRef+"="+ref)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var seen strings.Builder
	for b := make([]byte, 256); !strings.Contains(seen.String(), "begins"); {
		n, err := out.Read(b)
		seen.Write(b[:n])
		if err != nil {
			t.Fatalf("the child ended: %v\n%s", err, seen.String())
		}
	}
	begin := time.Now()
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	rest, _ := io.ReadAll(out)
	took := time.Since(begin)
	if err := cmd.Wait(); err != nil && after > time.Minute {
		t.Fatalf("the child: %v\n%s%s", err, seen.String(), rest)
	}
	return took
}

// A pull that is killed at any moment leaves nothing half visible, and the next one makes it whole. MOSS_LONG: 20 kills.
func TestPullKilled(t *testing.T) {
	r := testreg.New(t, testreg.Options{})
	var layers []testreg.Layer
	for i := range 6 {
		layers = append(layers, testreg.Layer{Files: 150, Size: 1 << 20, Seed: uint64(i + 1), Zstd: i%2 == 0})
	}
	m := r.Remote().Push(t, "killed", "1", testreg.Image{Layers: layers})
	ref := r.Host + "/killed:1"
	whole := min(pullKilled(t, t.TempDir(), ref, time.Hour), pullKilled(t, t.TempDir(), ref, time.Hour))
	killed, kept, done := 0, 0, 0
	kills := 8
	if os.Getenv("MOSS_LONG") != "" {
		kills = 20
	}
	for i := range kills {
		dir := t.TempDir()
		t.Cleanup(func() { unmountBelow(t, dir) })
		after := rand.N(whole)
		pullKilled(t, dir, ref, after)
		s := openReal(t, dir)
		list, err := s.List(t.Context())
		must(t, err)
		if len(list) > 1 || len(list) == 1 && (list[0].ID != moss.ImageID(m.Config) || len(list[0].Names) != 1 || len(list[0].Digests) != 1) {
			t.Errorf("%d, killed after %v: images are %+v", i, after, list)
		}
		killed++
		done += len(list)
		kept += len(unusedLayers(t, s))
		sound(t, s)
		got, l, err := pull(t, s, ref)
		if err != nil {
			t.Fatalf("%d, killed after %v: %v", i, after, err)
		}
		if got.ID != moss.ImageID(m.Config) || got.Digest != m.Digest.String() || got.New != (len(list) == 0) {
			t.Errorf("%d: Pull is %+v\n%s", i, got, strings.Join(l.text(), "\n"))
		}
		intact(t, s, m.DiffIDs)
		sound(t, s)
		if left := leftovers(t, s); len(left) > 0 {
			t.Errorf("%d, killed after %v: left behind: %q", i, after, left)
		}
		s.store.Free()
	}
	t.Logf("a whole pull takes %v; of %d killed %d were done, and %d layers were finished", whole, killed, done, kept)
}

// unmountBelow takes away what the library mounted to try the kernel out, and a
// killed process could not: pkg/storage does it at the daemon's start.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	must(t, err)
	for _, m := range mounts {
		must(t, unix.Unmount(m.Mountpoint, unix.MNT_DETACH))
	}
}

// intact reads every layer back: its tar is the one that was pulled.
func intact(t *testing.T, s *Store, diffs []digest.Digest) {
	t.Helper()
	for i, want := range diffs {
		plain := archive.Uncompressed
		r, err := s.store.Diff("", layer.ChainID(diffs[:i+1]), &storage.DiffOptions{Compression: &plain})
		must(t, err)
		got, err := digest.FromReader(r)
		must(t, err)
		must(t, r.Close())
		if got != want {
			t.Errorf("layer %d is %s, want %s", i, got, want)
		}
	}
}
