package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	boxed    = porttest.ArchiveImage{Tags: []string{"box:1", "box:2", "other:1"}, Config: `{"Cmd":["sh"]}`, Layers: [][]porttest.File{{{Name: "a", Text: "shared\n"}}, {{Name: "dir", Type: tar.TypeDir, Mode: 0o755}, {Name: "dir/b", Text: strings.Repeat("b", 100_000)}, {Name: "dir/l", Type: tar.TypeSymlink, Link: "b"}, {Name: ".wh.a"}}}}
	boxed3   = porttest.ArchiveImage{Tags: []string{"box:3"}, Layers: [][]porttest.File{{{Name: "a", Text: "shared\n"}}, {{Name: "c", Text: "c"}}}}
	unboxed  = porttest.ArchiveImage{Tags: []string{"un/boxed:1"}, Layers: [][]porttest.File{{{Name: "x", Text: "x"}}}}
	platform = porttest.ArchiveImage{Tags: []string{"plat"}, Config: `{"Cmd":["p"]}`, Layers: [][]porttest.File{{{Name: "p", Text: "p"}}}}
)

func save(t testing.TB, s *Store, refs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := s.Save(t.Context(), moss.SaveRequest{Refs: refs}, &out)
	must(t, err)
	return out.Bytes()
}

// members reads a tar into memory.
func members(t testing.TB, b []byte) (names []string, contents map[string]string) {
	t.Helper()
	contents = map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, contents
		}
		must(t, err)
		c, err := io.ReadAll(r)
		must(t, err)
		names = append(names, h.Name)
		contents[h.Name] = string(c)
	}
}

func TestSaveNames(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, boxed, boxed3, unboxed))
	must(t, err)
	a, b := string(boxed.ID(t)), string(boxed3.ID(t))
	for _, c := range []struct {
		refs []string
		want string // tags of each image
	}{
		{[]string{"box:1"}, "box:1"},
		{[]string{"box"}, "box:1 box:2;box:3"},
		{[]string{"docker.io/library/box:2", "box:1"}, "box:2 box:1"},
		{[]string{a}, ""},
		{[]string{a[7:19]}, ""},
		{[]string{a, b}, ";"},
		{[]string{a, "box:3", "other:1"}, "other:1;box:3"},
		{[]string{"un/boxed"}, "un/boxed:1"},
	} {
		archive := save(t, s, c.refs...)
		names, files := members(t, archive)
		if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
			t.Errorf("%q: a file comes twice: %q", c.refs, names)
		}
		var entries []savedEntry
		must(t, json.Unmarshal([]byte(files["manifest.json"]), &entries))
		var got []string
		for _, e := range entries {
			got = append(got, strings.Join(e.RepoTags, " "))
			for _, f := range append(e.Layers, e.Config) {
				if porttest.Sum([]byte(files[f])) != filepath.Base(f) {
					t.Errorf("%q: %s has another digest", c.refs, f)
				}
			}
		}
		if strings.Join(got, ";") != c.want {
			t.Errorf("%q: tags are %q, want %q", c.refs, got, c.want)
		}
		if again := save(t, s, c.refs...); !bytes.Equal(archive, again) {
			t.Errorf("%q: the second archive differs", c.refs)
		}
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestSaveRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, platform))
	must(t, err)
	for name, c := range map[string]struct {
		r    moss.SaveRequest
		want moss.Class
	}{
		"missing":        {moss.SaveRequest{Refs: []string{"plat", "nope"}}, moss.NotFound},
		"missing id":     {moss.SaveRequest{Refs: []string{"sha256:" + strings.Repeat("0", 64)}}, moss.NotFound},
		"missing tag":    {moss.SaveRequest{Refs: []string{"plat:2"}}, moss.NotFound},
		"no name":        {moss.SaveRequest{Refs: []string{"A B"}}, moss.Invalid},
		"nothing":        {moss.SaveRequest{}, moss.Invalid},
		"platform":       {moss.SaveRequest{Refs: []string{"plat"}, Platform: "linux/s390x"}, moss.NotFound},
		"platform wrong": {moss.SaveRequest{Refs: []string{"plat"}, Platform: "linux"}, moss.Invalid},
	} {
		var out bytes.Buffer
		if _, err := s.Save(t.Context(), c.r, &out); moss.ClassOf(err) != c.want || out.Len() > 0 {
			t.Errorf("%s: Save is %v and wrote %d bytes, want %v and none", name, err, out.Len(), c.want)
		}
	}
	var out bytes.Buffer
	ids, err := s.Save(t.Context(), moss.SaveRequest{Refs: []string{"plat"}, Platform: "linux/amd64"}, &out)
	if err != nil || !slices.Equal(ids, []moss.ImageID{platform.ID(t)}) {
		t.Errorf("Save for its platform is %v, %v", ids, err)
	}
}

// What is saved is loaded again as what it was, and has the digests that skopeo finds.
func TestSaveRoundTrip(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, boxed, unboxed))
	must(t, err)
	both := save(t, s, "box", "un/boxed:1")
	for name, archive := range map[string][]byte{"plain": both, "zstd": compressed(t, "zstd", both), "docker's part": without(t, both, "oci-layout", "index.json"), "OCI's part": without(t, both, "manifest.json", "repositories")} {
		s := open(t, t.TempDir())
		got, err := load(t, s, archive)
		must(t, err)
		want := []moss.LoadedImage{{ID: boxed.ID(t), Name: "box:1"}, {ID: boxed.ID(t), Name: "box:2"}, {ID: unboxed.ID(t), Name: "un/boxed:1"}}
		if !slices.Equal(got, want) {
			t.Errorf("%s: loaded %+v, want %+v", name, got, want)
		}
		if again := save(t, s, "box", "un/boxed:1"); !bytes.Equal(again, both) {
			t.Errorf("%s: saved again it differs", name)
		}
	}
}

// without leaves members out of a tar.
func without(t *testing.T, b []byte, left ...string) []byte {
	t.Helper()
	var files []porttest.File
	names, contents := members(t, b)
	for _, n := range names {
		if !slices.Contains(left, n) && !strings.HasSuffix(n, "/") {
			files = append(files, porttest.File{Name: n, Text: contents[n]})
		}
	}
	return porttest.Tar(t, files...)
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("skopeo")
	if err != nil {
		t.Fatal("skopeo is needed: make deps")
	}
	out, err := exec.CommandContext(t.Context(), bin, append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// What skopeo reads of ours and writes for us has the same digests.
func TestSkopeo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := load(t, s, porttest.DockerArchive(t, boxed, unboxed))
	must(t, err)
	one, both := filepath.Join(dir, "one.tar"), filepath.Join(dir, "both.tar")
	must(t, os.WriteFile(one, save(t, s, "un/boxed:1"), 0o600))
	must(t, os.WriteFile(both, save(t, s, "box", "un/boxed:1"), 0o600))
	for _, ref := range []string{"docker-archive:" + one, "oci-archive:" + one, "docker-archive:" + both + ":un/boxed:1", "docker-archive:" + both + ":@1"} {
		if cfg := skopeo(t, "inspect", "--config", "--raw", ref); "sha256:"+porttest.Sum([]byte(cfg)) != string(unboxed.ID(t)) {
			t.Errorf("%s has the configuration %s", ref, cfg)
		}
		for _, to := range []string{"docker-archive:", "oci-archive:"} {
			copied := filepath.Join(t.TempDir(), "copy.tar")
			skopeo(t, "copy", ref, to+copied+":docker.io/un/boxed:7")
			b, err := os.ReadFile(copied)
			must(t, err)
			fresh := open(t, t.TempDir())
			got, err := load(t, fresh, b)
			must(t, err)
			id := unboxed.ID(t)
			if to == "oci-archive:" && strings.HasPrefix(ref, "docker") { // skopeo writes the configuration anew
				id = moss.ImageID("sha256:" + porttest.Sum([]byte(skopeo(t, "inspect", "--config", "--raw", to+copied))))
			}
			if want := []moss.LoadedImage{{ID: id, Name: "un/boxed:7"}}; !slices.Equal(got, want) {
				t.Errorf("%s by %s is loaded as %+v, want %+v", ref, to, got, want)
			}
			_, ours := members(t, save(t, fresh, "un/boxed"))
			if l := "blobs/sha256/" + porttest.Sum(porttest.Tar(t, unboxed.Layers[0]...)); porttest.Sum([]byte(ours[l])) != filepath.Base(l) {
				t.Errorf("%s by %s has not the layer %s", ref, to, l)
			}
		}
	}
}

// A layer that is not what it was is an error, and no archive that looks right.
func TestSaveDamaged(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"changed": func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("c", 100_000)), 0o600) },
		"shorter": func(f string) error { return os.Truncate(f, 10) },
		"gone":    os.Remove,
		"a link out": func(f string) error {
			return errors.Join(os.Remove(f), os.Symlink("/etc/passwd", f))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			_, err := load(t, s, porttest.DockerArchive(t, boxed))
			must(t, err)
			raw, err := s.store.Image(hexOf(boxed.ID(t)))
			must(t, err)
			must(t, damage(filepath.Join(s.store.GraphRoot(), "overlay", raw.TopLayer, "diff", "dir", "b")))
			var out bytes.Buffer
			if _, err := s.Save(t.Context(), moss.SaveRequest{Refs: []string{"box:1"}}, &out); err == nil {
				t.Error("Save says nothing")
			} else {
				t.Log(err)
			}
			if strings.Contains(out.String(), "root:") {
				t.Error("a file of the machine is in the archive")
			}
			if _, err := load(t, open(t, t.TempDir()), out.Bytes()); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("what was written loads: %v", err)
			}
		})
	}
}

// A client that does not read keeps nobody from anything, and one that goes away ends it.
func TestSaveSlowClient(t *testing.T) {
	s := open(t, t.TempDir())
	big := porttest.ArchiveImage{Tags: []string{"big"}, Layers: [][]porttest.File{{{Name: "b", Text: strings.Repeat("b", 5<<20)}}}}
	_, err := load(t, s, porttest.DockerArchive(t, big))
	must(t, err)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Save(context.Background(), moss.SaveRequest{Refs: []string{"big"}}, w)
		ended <- err
	}()
	_, err = io.ReadFull(r, make([]byte, 1000))
	must(t, err)
	did := make(chan error, 1)
	go func() {
		_, err := load(t, s, porttest.DockerArchive(t, boxed))
		_, err2 := s.Tag(context.Background(), boxed.ID(t), "new")
		err3 := s.Untag(context.Background(), "big")
		_, err4 := s.Delete(context.Background(), big.ID(t))
		did <- errors.Join(err, err2, err3, err4)
	}()
	select {
	case err := <-did:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("a slow client keeps others waiting")
	}
	must(t, s.reaper.wait(t.Context())) // it met a layer that is held
	gone := errors.New("the client went away")
	must(t, r.CloseWithError(gone))
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("Save is %v", err)
	}
	// The layers that were held are free now.
	freed, err := s.Collect(t.Context())
	if err != nil || freed < 5<<20 {
		t.Errorf("Collect frees %d bytes, %v", freed, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
