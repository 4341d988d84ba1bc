package porttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// ImagesFixture is an empty store of images.
type ImagesFixture struct {
	Images   engine.ImageStore
	Archives engine.ImageArchives
	// Leftovers tells what is on disk beside the images that List gives; nil means none can be.
	Leftovers func(t *testing.T) []string
}

// Images tests an engine.ImageStore and the engine.ImageArchives beside it.
func Images(t *testing.T, open func(t *testing.T) ImagesFixture) {
	t.Run("load", func(t *testing.T) { imagesLoad(t, open(t)) })
	t.Run("resolve", func(t *testing.T) { imagesResolve(t, open(t)) })
	t.Run("tag", func(t *testing.T) { imagesTag(t, open(t)) })
	t.Run("delete", func(t *testing.T) { imagesDelete(t, open(t)) })
	t.Run("delete what comes in", func(t *testing.T) { imagesDeleteArriving(t, open(t)) })
	t.Run("bad archives", func(t *testing.T) { imagesBad(t, open(t)) })
	t.Run("import", func(t *testing.T) { imagesImport(t, open(t)) })
	t.Run("builtin", func(t *testing.T) { imagesBuiltin(t, open(t)) })
}

var (
	busybox = ArchiveImage{
		Tags:   []string{"busybox:latest", "localhost:5000/box:1"},
		Config: `{"Cmd":["sh"],"Env":["PATH=/bin"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"Labels":{"a":"b"},"StopTimeout":3}`,
		Layers: [][]File{{{Name: "hello", Text: "hello\n"}}, {{Name: "second", Text: "2\n"}}},
	}
	other    = ArchiveImage{Tags: []string{"other:1"}, Layers: [][]File{{{Name: "hello", Text: "hello\n"}}}}
	nameless = ArchiveImage{Config: `{"Cmd":["x"]}`, Layers: [][]File{{{Name: "n", Text: "n"}}}}
)

// Busybox is the image that tests of adapters load: it has the file "hello" with the text "hello\n".
func Busybox() ArchiveImage { return busybox }

func load(t *testing.T, f ImagesFixture, images ...ArchiveImage) []string {
	t.Helper()
	var lines []string
	_, err := f.Archives.Load(t.Context(), bytes.NewReader(DockerArchive(t, images...)), moss.LoadOptions{}, func(p moss.Progress) {
		if p.ID == "" { // not of one layer
			lines = append(lines, p.Status)
		}
	})
	must(t, err)
	return lines
}

func imagesLoad(t *testing.T, f ImagesFixture) {
	lines := load(t, f, busybox, nameless)
	want := []string{"Loaded image: busybox:latest", "Loaded image: localhost:5000/box:1", "Loaded image ID: " + string(nameless.ID(t))}
	if !slices.Equal(lines, want) {
		t.Errorf("progress is %q, want %q", lines, want)
	}
	im, err := f.Images.Resolve(t.Context(), "busybox")
	must(t, err)
	if im.ID != busybox.ID(t) {
		t.Errorf("id is %s, want the configuration's digest %s", im.ID, busybox.ID(t))
	}
	if want := []string{"docker.io/library/busybox:latest", "localhost:5000/box:1"}; !slices.Equal(im.Names, want) {
		t.Errorf("names are %q, want %q", im.Names, want)
	}
	c := im.Config
	if !slices.Equal(c.Cmd, []string{"sh"}) || !slices.Equal(c.Env, []string{"PATH=/bin"}) || c.Labels["a"] != "b" || !slices.Equal(c.Volumes, []string{"/data"}) ||
		!slices.Equal(c.ExposedPorts, []moss.Port{{Number: 80, Proto: moss.TCP}}) || c.StopTimeout == nil || *c.StopTimeout != 3 {
		t.Errorf("configuration is %+v", c)
	}
	if im.OS != "linux" || im.Architecture != "amd64" || im.Created.Year() != 2026 || len(im.DiffIDs) != 2 || len(im.LayerSizes) != 2 || im.Size < int64(len("hello\n2\n")) || im.TaggedAt.IsZero() {
		t.Errorf("image is %+v", im)
	}
	wantImages(t, f, 2)
	// Once more changes nothing.
	load(t, f, busybox, nameless)
	wantImages(t, f, 2)
}

func imagesResolve(t *testing.T, f ImagesFixture) {
	load(t, f, busybox, other)
	id := string(busybox.ID(t))
	for _, ref := range []string{"busybox", "busybox:latest", "docker.io/busybox", "library/busybox:latest", "localhost:5000/box:1", id, strings.TrimPrefix(id, "sha256:"), id[:len("sha256:")+12], strings.TrimPrefix(id, "sha256:")[:12]} {
		im, err := f.Images.Resolve(t.Context(), ref)
		if err != nil || string(im.ID) != id {
			t.Errorf("Resolve(%q) is %s, %v; want %s", ref, im.ID, err, id)
		}
	}
	_, err := f.Images.Resolve(t.Context(), "nope")
	if moss.ClassOf(err) != moss.NotFound || err.Error() != "No such image: nope:latest" {
		t.Errorf("Resolve of a missing image is %v", err)
	}
	if _, err := f.Images.Resolve(t.Context(), "sha256:"+strings.Repeat("0", 64)); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Resolve of a missing id is %v", err)
	}
	for _, ref := range []string{"", "UPPER", "a b", "a:b:c", "../x"} {
		if _, err := f.Images.Resolve(t.Context(), ref); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Resolve(%q) is %v, want invalid", ref, err)
		}
	}
	// Hundreds of images would be needed to be sure that two begin alike; the empty prefix names none.
	if _, err := f.Images.Resolve(t.Context(), "sha256:"); err == nil {
		t.Error("Resolve of no digits finds an image")
	}
}

func imagesTag(t *testing.T, f ImagesFixture) {
	load(t, f, busybox, other)
	ctx := t.Context()
	name, err := f.Images.Tag(ctx, busybox.ID(t), "mine/box")
	must(t, err)
	if name != "docker.io/mine/box:latest" {
		t.Errorf("Tag gives %q", name)
	}
	wantResolves(t, f, "mine/box", busybox.ID(t))
	// A name in use moves.
	_, err = f.Images.Tag(ctx, other.ID(t), "mine/box:latest")
	must(t, err)
	wantResolves(t, f, "mine/box", other.ID(t))
	im, err := f.Images.Resolve(ctx, "busybox")
	must(t, err)
	if slices.Contains(im.Names, "docker.io/mine/box:latest") {
		t.Errorf("the image that lost the name still has it: %q", im.Names)
	}
	must(t, f.Images.Untag(ctx, "mine/box"))
	for _, err := range []error{f.Images.Untag(ctx, "mine/box"), f.Images.Untag(ctx, "never:was")} {
		if moss.ClassOf(err) != moss.NotFound {
			t.Errorf("Untag of what is not there is %v", err)
		}
	}
	for _, bad := range []string{"", "UPPER", "a b", "x@sha256:" + strings.Repeat("a", 64), "sha256"} {
		if _, err := f.Images.Tag(ctx, other.ID(t), bad); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Tag(%q) is %v, want invalid", bad, err)
		}
	}
	if _, err := f.Images.Tag(ctx, moss.ImageID("sha256:"+moss.NewHexID()), "x"); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Tag of no image is %v", err)
	}
}

func imagesDelete(t *testing.T, f ImagesFixture) {
	load(t, f, busybox, other)
	ctx, id := t.Context(), busybox.ID(t)
	if _, err := f.Images.Delete(ctx, id); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("Delete of a named image is %v, want a conflict", err)
	}
	must(t, f.Images.Untag(ctx, "busybox:latest"))
	must(t, f.Images.Untag(ctx, "localhost:5000/box:1"))
	got, err := f.Images.Delete(ctx, id)
	must(t, err)
	if len(got) == 0 || got[0].Deleted != id {
		t.Errorf("Delete gives %+v", got)
	}
	wantImages(t, f, 1) // the layer it shared with the other is still there
	if _, err := f.Images.Delete(ctx, id); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("a second Delete is %v, want not found", err)
	}
	must(t, f.Images.Untag(ctx, "other:1"))
	_, err = f.Images.Delete(ctx, other.ID(t))
	must(t, err)
	wantImages(t, f, 0)
}

// Who removes images without a name does not get those that are about to have one.
func imagesDeleteArriving(t *testing.T, f ImagesFixture) {
	archive := DockerArchive(t, other)
	ctx, id := t.Context(), other.ID(t)
	for range 20 {
		loaded := make(chan error)
		go func() {
			_, err := f.Archives.Load(ctx, bytes.NewReader(archive), moss.LoadOptions{}, func(moss.Progress) {})
			loaded <- err
		}()
		for done := false; !done; {
			select {
			case err := <-loaded:
				must(t, err)
				done = true
			default:
				_, err := f.Images.Delete(ctx, id)
				if class := moss.ClassOf(err); class != moss.NotFound && class != moss.Conflict {
					t.Fatalf("Delete of an image on its way in is %v", err)
				}
			}
		}
		wantResolves(t, f, "other:1", id)
		must(t, f.Images.Untag(ctx, "other:1"))
		_, err := f.Images.Delete(ctx, id)
		must(t, err)
	}
	wantImages(t, f, 0)
}

func imagesBad(t *testing.T, f ImagesFixture) {
	load(t, f, other)
	good := DockerArchive(t, busybox)
	wrong := busybox
	wrong.WrongDiffID = true
	badTag := busybox
	badTag.Tags = []string{"NOT A NAME"}
	badConfig := busybox
	badConfig.Config = `"text"`
	for name, archive := range map[string][]byte{
		"empty":             nil,
		"text":              []byte(strings.Repeat("this is no archive\n", 100)),
		"root file system":  Tar(t, File{Name: "etc/passwd", Text: "x"}),
		"cut short":         good[:len(good)/2],
		"wrong digest":      DockerArchive(t, wrong),
		"bad tag":           DockerArchive(t, badTag),
		"bad configuration": DockerArchive(t, badConfig),
		"no such layer":     Tar(t, File{Name: "manifest.json", Text: `[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l"]}]`}),
		"manifest is text":  Tar(t, File{Name: "manifest.json", Text: `text`}),
		"no images":         Tar(t, File{Name: "manifest.json", Text: `[]`}),
		"good, then bad":    DockerArchive(t, busybox, wrong),
	} {
		t.Run(name, func(t *testing.T) {
			images, err := f.Archives.Load(t.Context(), bytes.NewReader(archive), moss.LoadOptions{}, func(p moss.Progress) {
				if p.ID == "" {
					t.Errorf("progress %+v", p)
				}
			})
			if moss.ClassOf(err) != moss.Invalid || len(images) != 0 {
				t.Errorf("Load is %v, %v; want invalid", images, err)
			}
			wantImages(t, f, 1)
		})
	}
	t.Run("stream breaks", func(t *testing.T) {
		r := io.MultiReader(bytes.NewReader(good[:2000]), iotest.ErrReader(errors.New("connection lost")))
		if _, err := f.Archives.Load(t.Context(), r, moss.LoadOptions{}, func(moss.Progress) {}); err == nil || !strings.Contains(err.Error(), "connection lost") {
			t.Errorf("Load is %v", err)
		}
		wantImages(t, f, 1)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.Archives.Load(ctx, bytes.NewReader(good), moss.LoadOptions{}, func(moss.Progress) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("Load is %v", err)
		}
		wantImages(t, f, 1)
	})
}

func imagesImport(t *testing.T, f ImagesFixture) {
	ctx := t.Context()
	rootfs := Tar(t, File{Name: "hello", Text: "hello\n"})
	got, err := f.Archives.Import(ctx, bytes.NewReader(rootfs), moss.ImportOptions{Reference: "imported", Message: "by hand", Architecture: "arm64"})
	must(t, err)
	if got.Name != "imported:latest" {
		t.Errorf("Import gives %+v", got)
	}
	im, err := f.Images.Resolve(ctx, "imported")
	must(t, err)
	if im.ID != got.ID || im.Architecture != "arm64" || im.OS != "linux" || im.Comment != "by hand" || !slices.Equal(im.DiffIDs, []string{"sha256:" + Sum(rootfs)}) || im.Created.IsZero() {
		t.Errorf("image is %+v", im)
	}
	got, err = f.Archives.Import(ctx, bytes.NewReader(rootfs), moss.ImportOptions{})
	must(t, err)
	if got.Name != "" || got.ID == "" {
		t.Errorf("Import without a name gives %+v", got)
	}
	wantImages(t, f, 2)
	for _, o := range []moss.ImportOptions{{Reference: "NO NAME"}, {Changes: []string{"RUN x"}}} {
		if _, err := f.Archives.Import(ctx, bytes.NewReader(rootfs), o); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Import with %+v is %v, want invalid", o, err)
		}
	}
	for _, bad := range [][]byte{nil, []byte(strings.Repeat("this is no archive\n", 100)), rootfs[:514]} {
		if got, err := f.Archives.Import(ctx, bytes.NewReader(bad), moss.ImportOptions{Reference: "bad"}); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("Import of %.10q… is %v, %v; want invalid", bad, got, err)
		}
	}
	wantImages(t, f, 2)
}

func imagesBuiltin(t *testing.T, f ImagesFixture) {
	ctx := t.Context()
	for _, ref := range []string{"busybox", "moss/hello:2", "UPPER", ""} {
		if ok, err := f.Archives.EnsureBuiltin(ctx, ref); ok || err != nil {
			t.Errorf("EnsureBuiltin(%q) is %v, %v", ref, ok, err)
		}
	}
	wantImages(t, f, 0)
	for _, ref := range []string{"moss/hello", "docker.io/moss/hello:latest"} {
		if ok, err := f.Archives.EnsureBuiltin(ctx, ref); !ok || err != nil {
			t.Fatalf("EnsureBuiltin(%q) is %v, %v", ref, ok, err)
		}
	}
	im, err := f.Images.Resolve(ctx, "moss/hello")
	must(t, err)
	if !slices.Equal(im.Config.Entrypoint, []string{"/moss-hello"}) || !slices.Equal(im.Config.ExposedPorts, []moss.Port{{Number: 80, Proto: moss.TCP}}) {
		t.Errorf("image is %+v", im)
	}
	wantImages(t, f, 1)
}

func wantResolves(t *testing.T, f ImagesFixture, ref string, want moss.ImageID) {
	t.Helper()
	im, err := f.Images.Resolve(t.Context(), ref)
	if err != nil || im.ID != want {
		t.Errorf("Resolve(%q) is %s, %v; want %s", ref, im.ID, err, want)
	}
}

func wantImages(t *testing.T, f ImagesFixture, n int) {
	t.Helper()
	list, err := f.Images.List(t.Context())
	must(t, err)
	if len(list) != n {
		t.Errorf("there are %d images, want %d: %+v", len(list), n, list)
	}
	if f.Leftovers != nil {
		if left := f.Leftovers(t); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}
