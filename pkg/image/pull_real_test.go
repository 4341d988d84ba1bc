package image

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	testreg "github.com/moss-containers/moss/tests/registry"
)

// A real registry, behind what drops, lies and refuses.
func TestPullReal(t *testing.T) {
	r := testreg.New(t, testreg.Options{})
	var layers []testreg.Layer
	for i := range 4 {
		layers = append(layers, testreg.Layer{Files: 20, Size: 300_000, Zstd: i == 2, Plain: i == 3, Seed: uint64(i + 100)})
	}
	m := r.Remote().Push(t, "real", "1", testreg.Image{Layers: layers, Docker: false})
	blob := func(i int) string { return "/blobs/" + m.Layers[i].Digest.String() }
	for name, c := range map[string]struct {
		faults []testreg.Fault
		err    string
		class  moss.Class
	}{
		"drops":     {faults: []testreg.Fault{{Path: blob(0), Times: 2, DropAfter: 1000}, {Path: blob(1), Times: 3, DropAfter: 100_000}}},
		"truncates": {faults: []testreg.Fault{{Path: blob(2), Times: 2, Truncate: 50_000}}},
		"busy":      {faults: []testreg.Fault{{Path: blob(1), Times: 1, Status: 429, RetryAfter: "1"}, {Path: "/manifests/", Times: 1, Status: 503}, {Path: blob(3), Times: 2, Status: 500}}},
		"corrupts":  {faults: []testreg.Fault{{Path: blob(0), Times: 1, Corrupt: 5000}, {Path: m.Config.String(), Times: 1, Corrupt: 10}}},
		"lies":      {faults: []testreg.Fault{{Path: blob(0), Corrupt: 5000}}, err: "filesystem layer verification failed for digest", class: moss.Invalid},
		"lost":      {faults: []testreg.Fault{{Path: blob(1), Status: 404}}, err: "404", class: moss.NotFound},
		"down":      {faults: []testreg.Fault{{Path: blob(1), Status: 503}}, err: "503", class: moss.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := testreg.NewProxy(t, r)
			for _, f := range c.faults {
				p.Fault(f)
			}
			s := openReal(t, t.TempDir())
			begin := time.Now()
			got, l, err := pull(t, s, p.Host+"/real:1")
			t.Logf("%v", time.Since(begin))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || moss.ClassOf(err) != c.class {
					t.Errorf("Pull is %v (%v)", err, moss.ClassOf(err))
				}
				if len(s.images) > 0 {
					t.Errorf("there is an image")
				}
				sound(t, s)
				return
			}
			must(t, err)
			if got.ID != moss.ImageID(m.Config) || got.Digest != m.Digest.String() {
				t.Errorf("Pull is %+v\n%s", got, strings.Join(l.text(), "\n"))
			}
			intact(t, s, m.DiffIDs)
			sound(t, s)
		})
	}
}

// A disk that fills up in the middle: a clear error, and all else goes on.
func TestPullRealDiskFull(t *testing.T) {
	r := testreg.New(t, testreg.Options{})
	layers := testreg.Layers(3, 12<<20)
	for i := range layers {
		layers[i].Plain = true // packing them takes long, and makes them no smaller
	}
	big := r.Remote().Push(t, "big", "1", testreg.Image{Layers: layers})
	small := r.Remote().Push(t, "small", "1", testreg.Image{Layers: testreg.Layers(2, 100_000)})
	dir := t.TempDir()
	must(t, unix.Mount("small", dir, "tmpfs", 0, "size=30m"))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s := openReal(t, dir)
	_, _, err := pull(t, s, r.Host+"/big:1")
	if err == nil || !strings.HasSuffix(err.Error(), "no space left on the device that holds "+filepath.Join(dir, "graph")) || moss.ClassOf(err) != moss.Internal {
		t.Errorf("Pull is %v", err)
	}
	sound(t, s)
	_, err = s.Collect(t.Context())
	must(t, err)
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	got, _, err := pull(t, s, r.Host+"/small:1")
	if err != nil || got.ID != moss.ImageID(small.Config) {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
	intact(t, s, small.DiffIDs)
	if _, err := s.Resolve(t.Context(), string(big.Config)); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("the big one is %v", err)
	}
}
