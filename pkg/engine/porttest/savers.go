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
