package porttest

import (
	"bytes"
	"context"
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

// MakerFixture is an empty store in which images can be made.
type MakerFixture struct {
	ImagesFixture
	Maker engine.ImageMaker
	// Attest keeps statements with an image, as a pull or a load does.
	Attest func(t *testing.T, id moss.ImageID, list ...moss.Attestation)
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
	statement := func(kind, text string) moss.Attestation {
		return moss.Attestation{PredicateType: kind, MediaType: "application/vnd.in-toto+json", Digest: "sha256:" + Sum([]byte(text)), Statement: []byte(text)}
	}
	list := []moss.Attestation{statement("a", "{ \"x\": \"<1>\" }\n"), statement("b", "{}"), statement("a", "{\n}")}
	f.Attest(t, busybox.ID(t), list...)
	for _, c := range []struct {
		types []string
		want  []moss.Attestation
	}{
		{nil, list}, {[]string{"a"}, []moss.Attestation{list[0], list[2]}}, {[]string{"c", "b"}, list[1:2]}, {[]string{"c"}, nil},
	} {
		got, err := f.Maker.Attestations(t.Context(), busybox.ID(t), c.types)
		same := func(a, b moss.Attestation) bool {
			return a.PredicateType == b.PredicateType && a.MediaType == b.MediaType && a.Digest == b.Digest && bytes.Equal(a.Statement, b.Statement)
		}
		if err != nil || !slices.EqualFunc(got, c.want, same) {
			t.Errorf("Attestations of the types %q are %+v, %v; want %+v", c.types, got, err, c.want)
		}
	}
}

// SpaceFixture is an empty store that can have layers which no image needs.
type SpaceFixture struct {
	ImagesFixture
	Space engine.ImageSpace
	// Strand leaves a layer of some bytes, as a pull does that was cut short.
	Strand func(t *testing.T)
	// Copy makes a container with a user namespace of its own from an image; drop
	// removes it. Nil where there are no ids for one.
	Copy func(t *testing.T, image moss.ImageID) (drop func())
}

// ImageSpace tests an [engine.ImageSpace].
func ImageSpace(t *testing.T, open func(t *testing.T) SpaceFixture) {
	t.Run("collect", func(t *testing.T) {
		f := open(t)
		unused := func() int64 {
			n, _, err := f.Space.Usage(t.Context())
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
	t.Run("copies", func(t *testing.T) {
		f := open(t)
		if f.Copy == nil {
			t.Skip("only one id is mapped here")
		}
		load(t, f.ImagesFixture, busybox)
		id := busybox.ID(t)
		im, err := f.Images.Resolve(t.Context(), string(id))
		must(t, err)
		size := im.Size
		is := func(when string, copies, unused int64) {
			t.Helper()
			u, c, err := f.Space.Usage(t.Context())
			must(t, err)
			if c[id] != copies || u != unused || len(c) > 1 {
				t.Errorf("%s: copies are %v, %d bytes unused; want %d and %d", when, c, u, copies, unused)
			}
		}
		is("before", 0, 0)
		drop := f.Copy(t, id)
		is("with a container", size, 0)
		if got, err := f.Space.Collect(t.Context()); got != 0 || err != nil {
			t.Errorf("Collect frees %d, %v, of a copy that a container has", got, err)
		}
		drop()
		is("without the container", 0, size)
		if got, err := f.Space.Collect(t.Context()); got != size || err != nil {
			t.Errorf("Collect frees %d, %v; want %d", got, err, size)
		}
		is("after Collect", 0, 0)
		drop = f.Copy(t, id)
		is("with another container", size, 0)
		drop()
	})
}
