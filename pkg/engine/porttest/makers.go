package porttest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// SaverFixture is an empty store of images that can be saved.
type SaverFixture struct {
	ImagesFixture
	Saver engine.ImageSaver
}

// ImageSaver tests an [engine.ImageSaver].
func ImageSaver(t *testing.T, open func(t *testing.T) SaverFixture) {
	t.Run("one", func(t *testing.T) { saveOne(t, open(t), open(t)) })
	t.Run("many", func(t *testing.T) { saveMany(t, open(t), open(t)) })
	t.Run("refused", func(t *testing.T) { saveRefused(t, open(t)) })
	t.Run("broken off", func(t *testing.T) { saveBroken(t, open(t)) })
}

func save(t *testing.T, f SaverFixture, refs ...string) (archive []byte, ids []moss.ImageID) {
	t.Helper()
	var buf bytes.Buffer
	ids, err := f.Saver.Save(t.Context(), moss.SaveRequest{Refs: refs}, &buf)
	must(t, err)
	return buf.Bytes(), ids
}

func loadArchive(t *testing.T, f ImagesFixture, archive []byte) {
	t.Helper()
	_, err := f.Archives.Load(t.Context(), bytes.NewReader(archive), moss.LoadOptions{}, func(moss.Progress) {})
	must(t, err)
}

func saveOne(t *testing.T, f, there SaverFixture) {
	load(t, f.ImagesFixture, busybox, other)
	archive, ids := save(t, f, "busybox:latest")
	if !slices.Equal(ids, []moss.ImageID{busybox.ID(t)}) {
		t.Errorf("Save gives %v", ids)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		files[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
	for _, name := range []string{"manifest.json", "oci-layout", "index.json"} {
		if files[name] == nil {
			t.Errorf("there is no %s: %q", name, slices.Sorted(maps.Keys(files)))
		}
	}
	var index struct{ Manifests []struct{ Digest string } }
	must(t, json.Unmarshal(files["index.json"], &index))
	for _, m := range index.Manifests {
		b := files["blobs/sha256/"+strings.TrimPrefix(m.Digest, "sha256:")]
		if "sha256:"+Sum(b) != m.Digest {
			t.Errorf("the manifest %s is not there, or is another", m.Digest)
		}
	}
	if len(index.Manifests) == 0 {
		t.Error("the OCI layout has no image")
	}
	loadArchive(t, there.ImagesFixture, archive)
	im, err := there.Images.Resolve(t.Context(), "busybox")
	must(t, err)
	if im.ID != busybox.ID(t) || !slices.Equal(im.Names, []string{"docker.io/library/busybox:latest"}) {
		t.Errorf("%+v came back", im)
	}
	again, _ := save(t, there, "busybox:latest")
	if !bytes.Equal(again, archive) {
		t.Error("what came back is saved as something else")
	}
}

func saveMany(t *testing.T, f, there SaverFixture) {
	load(t, f.ImagesFixture, busybox, other, nameless)
	for _, name := range []string{"busybox:2", "other:2"} {
		_, err := f.Images.Tag(t.Context(), busybox.ID(t), name)
		must(t, err)
	}
	id := string(nameless.ID(t))
	archive, ids := save(t, f, "busybox", "other:1", strings.TrimPrefix(id, "sha256:")[:20], "busybox:latest")
	slices.Sort(ids)
	want := []moss.ImageID{busybox.ID(t), other.ID(t), nameless.ID(t)}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("Save gives %v, want %v", ids, want)
	}
	loadArchive(t, there.ImagesFixture, archive)
	wantImages(t, there.ImagesFixture, 3)
	// A name alone means all its tags, an id none.
	for ref, want := range map[string][]string{
		"busybox": {"docker.io/library/busybox:2", "docker.io/library/busybox:latest"}, "other:1": {"docker.io/library/other:1"}, id: nil,
	} {
		im, err := there.Images.Resolve(t.Context(), ref)
		must(t, err)
		if !slices.Equal(im.Names, want) {
			t.Errorf("%s came back with the names %q, want %q", ref, im.Names, want)
		}
	}
}

func saveRefused(t *testing.T, f SaverFixture) {
	load(t, f.ImagesFixture, busybox)
	for _, q := range []moss.SaveRequest{
		{Refs: []string{"busybox", "none"}}, {Refs: []string{"busybox:3"}}, {Refs: []string{"busybox"}, Platform: "linux/s390x"}, {Refs: []string{"NO NAME"}},
	} {
		var buf bytes.Buffer
		ids, err := f.Saver.Save(t.Context(), q, &buf)
		if class := moss.ClassOf(err); class != moss.NotFound && class != moss.Invalid || buf.Len() > 0 || len(ids) > 0 {
			t.Errorf("Save of %+v is %v, %v, %d bytes", q, ids, err, buf.Len())
		}
	}
}

type brokenWriter struct{ left int }

var errBroken = errors.New("the pipe broke")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func saveBroken(t *testing.T, f SaverFixture) {
	load(t, f.ImagesFixture, busybox)
	if _, err := f.Saver.Save(t.Context(), moss.SaveRequest{Refs: []string{"busybox"}}, &brokenWriter{left: 1000}); !errors.Is(err, errBroken) {
		t.Errorf("Save is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Saver.Save(ctx, moss.SaveRequest{Refs: []string{"busybox"}}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("Save is %v", err)
	}
	wantImages(t, f.ImagesFixture, 1)
}

// MakerFixture is an empty store in which images can be made.
type MakerFixture struct {
	ImagesFixture
	Maker engine.ImageMaker
}

// ImageMaker tests an [engine.ImageMaker].
func ImageMaker(t *testing.T, open func(t *testing.T) MakerFixture) {
	t.Run("on a base", func(t *testing.T) { makeOnBase(t, open(t)) })
	t.Run("on nothing", func(t *testing.T) { makeOnNothing(t, open(t)) })
	t.Run("refused", func(t *testing.T) { makeRefused(t, open(t)) })
	t.Run("attestations", func(t *testing.T) { makeAttestations(t, open(t)) })
}

func makeOnBase(t *testing.T, f MakerFixture) {
	load(t, f.ImagesFixture, busybox)
	base, err := f.Images.Resolve(t.Context(), "busybox")
	must(t, err)
	diff := Tar(t, File{Name: "new", Text: "new\n"}, File{Name: ".wh.hello"})
	cfg := moss.ContainerConfig{
		Cmd: []string{"sh", "-c", "x"}, Env: []string{"A=1"}, Labels: map[string]string{"b": "c"}, User: "7", WorkingDir: "/w",
		ExposedPorts: []moss.Port{{Number: 53, Proto: moss.UDP}},
	}
	id, err := f.Maker.Make(t.Context(), moss.NewImage{
		Base: base.ID, Reference: "docker.io/library/made:1", Author: "me", Message: "why not", CreatedBy: "sh -c y", Config: cfg, Container: newID(),
	}, bytes.NewReader(diff))
	must(t, err)
	im, err := f.Images.Resolve(t.Context(), "made:1")
	must(t, err)
	if im.ID != id || im.Author != "me" || im.Comment != "why not" || im.OS != base.OS || im.Architecture != base.Architecture || im.Created.IsZero() ||
		!slices.Equal(im.DiffIDs, append(slices.Clip(base.DiffIDs), "sha256:"+Sum(diff))) || len(im.LayerSizes) != 3 || !slices.Equal(im.LayerSizes[:2], base.LayerSizes) {
		t.Errorf("image is %+v on %+v", im, base)
	}
	c := im.Config
	if !slices.Equal(c.Cmd, cfg.Cmd) || !slices.Equal(c.Env, cfg.Env) || !maps.Equal(c.Labels, cfg.Labels) || c.User != "7" || c.WorkingDir != "/w" || !slices.Equal(c.ExposedPorts, cfg.ExposedPorts) {
		t.Errorf("configuration is %+v", c)
	}
	last := im.History[len(im.History)-1]
	if len(im.History) != len(base.History)+1 || last.CreatedBy != "sh -c y" || last.Author != "me" || last.Comment != "why not" || last.EmptyLayer {
		t.Errorf("history is %+v", im.History)
	}
	// The base goes, and what stands on it stays.
	for _, name := range base.Names {
		must(t, f.Images.Untag(t.Context(), name))
	}
	removed, err := f.Images.Delete(t.Context(), base.ID)
	must(t, err)
	if len(removed) != 1 {
		t.Errorf("Delete of the base gives %+v", removed)
	}
	wantImages(t, f.ImagesFixture, 1)
}

func makeOnNothing(t *testing.T, f MakerFixture) {
	diff := Tar(t, File{Name: "new", Text: "new\n"})
	id, err := f.Maker.Make(t.Context(), moss.NewImage{}, bytes.NewReader(diff))
	must(t, err)
	im, err := f.Images.Resolve(t.Context(), string(id))
	must(t, err)
	if !slices.Equal(im.DiffIDs, []string{"sha256:" + Sum(diff)}) || len(im.Names) != 0 || im.OS == "" || im.Architecture == "" {
		t.Errorf("image is %+v", im)
	}
	// Of a container that changed nothing.
	_, err = f.Maker.Make(t.Context(), moss.NewImage{Base: id}, bytes.NewReader(Tar(t)))
	must(t, err)
	wantImages(t, f.ImagesFixture, 2)
}

func makeRefused(t *testing.T, f MakerFixture) {
	load(t, f.ImagesFixture, busybox)
	diff := Tar(t, File{Name: "new", Text: strings.Repeat("new\n", 1000)})
	try := func(n moss.NewImage, r io.Reader) error {
		id, err := f.Maker.Make(t.Context(), n, r)
		if err == nil {
			t.Errorf("Make of %+v gives %s", n, id)
		}
		wantImages(t, f.ImagesFixture, 1)
		return err
	}
	if err := try(moss.NewImage{Base: moss.ImageID("sha256:" + moss.NewHexID())}, bytes.NewReader(diff)); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Make on no image is %v", err)
	}
	for _, n := range []moss.NewImage{{Changes: []string{"RUN x"}}, {Reference: "NO NAME"}} {
		if err := try(n, bytes.NewReader(diff)); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Make of %+v is %v", n, err)
		}
	}
	if err := try(moss.NewImage{}, strings.NewReader(strings.Repeat("this is no tar\n", 100))); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("Make of text is %v", err)
	}
	if err := try(moss.NewImage{Base: busybox.ID(t)}, io.MultiReader(bytes.NewReader(diff[:2000]), iotest.ErrReader(errBroken))); !errors.Is(err, errBroken) {
		t.Errorf("Make of a stream that breaks is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Maker.Make(ctx, moss.NewImage{}, bytes.NewReader(diff)); !errors.Is(err, context.Canceled) {
		t.Errorf("Make is %v", err)
	}
	wantImages(t, f.ImagesFixture, 1)
}

func makeAttestations(t *testing.T, f MakerFixture) {
	load(t, f.ImagesFixture, busybox)
	if got, err := f.Maker.Attestations(t.Context(), busybox.ID(t), nil); err != nil || len(got) != 0 {
		t.Errorf("Attestations of an image without any are %+v, %v", got, err)
	}
	if _, err := f.Maker.Attestations(t.Context(), moss.ImageID("sha256:"+moss.NewHexID()), nil); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Attestations of no image are %v", err)
	}
}

// SpaceFixture is an empty store that can have layers which no image needs.
type SpaceFixture struct {
	ImagesFixture
	Space engine.ImageSpace
	// Strand leaves a layer of some bytes, as a pull does that was cut short.
	Strand func(t *testing.T)
}

// ImageSpace tests an [engine.ImageSpace].
func ImageSpace(t *testing.T, open func(t *testing.T) SpaceFixture) {
	t.Run("collect", func(t *testing.T) {
		f := open(t)
		unused := func() int64 {
			n, err := f.Space.Unused(t.Context())
			must(t, err)
			return n
		}
		load(t, f.ImagesFixture, busybox)
		if n := unused(); n != 0 {
			t.Errorf("%d bytes are unused where images need all", n)
		}
		f.Strand(t)
		n := unused()
		if n <= 0 {
			t.Errorf("%d bytes are unused after a pull that was cut short", n)
		}
		got, err := f.Space.Collect(t.Context())
		must(t, err)
		if got != n || unused() != 0 {
			t.Errorf("Collect frees %d of %d bytes, and leaves %d", got, n, unused())
		}
		if got, err := f.Space.Collect(t.Context()); got != 0 || err != nil {
			t.Errorf("a second Collect frees %d, %v", got, err)
		}
		wantImages(t, f.ImagesFixture, 1)
		wantResolves(t, f.ImagesFixture, "busybox", busybox.ID(t))
	})
}
