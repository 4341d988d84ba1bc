package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestMake(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, boxed))
	must(t, err)
	base, err := s.Resolve(t.Context(), "box:1")
	must(t, err)
	diff := porttest.Tar(t, porttest.File{Name: "new", Text: "new"})
	stop := 7
	n := moss.NewImage{
		Base: base.ID, Reference: "made:1", Author: "me", Message: "why", CreatedBy: "sh -c x", Container: "c0ffee",
		Config: moss.ContainerConfig{
			Cmd: []string{"sh"}, Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}, Shell: []string{"/bin/bash", "-c"}, StopTimeout: &stop,
			Healthcheck: &moss.Healthcheck{Test: []string{"CMD", "true"}, Retries: 3},
		},
		Changes: []string{"ENV A=2 B=3", "LABEL k=w", "ENTRYPOINT [\"/new\"]"},
	}
	id, err := s.Make(t.Context(), n, bytes.NewReader(diff))
	must(t, err)
	im, err := s.Resolve(t.Context(), "made:1")
	must(t, err)
	if im.ID != id || im.Author != "me" || im.Comment != "why" || im.Architecture != base.Architecture || im.Created.IsZero() {
		t.Errorf("image is %+v", im)
	}
	if want := append(slices.Clone(base.DiffIDs), "sha256:"+porttest.Sum(diff)); !slices.Equal(im.DiffIDs, want) {
		t.Errorf("diff ids are %q, want %q", im.DiffIDs, want)
	}
	c := im.Config
	if !slices.Equal(c.Env, []string{"A=2", "B=3"}) || c.Labels["k"] != "w" || len(c.Cmd) != 0 || !slices.Equal(c.Entrypoint, []string{"/new"}) ||
		!slices.Equal(c.Shell, n.Config.Shell) || c.StopTimeout == nil || *c.StopTimeout != 7 || c.Healthcheck == nil || c.Healthcheck.Retries != 3 {
		t.Errorf("configuration is %+v", c)
	}
	if n.Config.Env[0] != "A=1" || n.Config.Labels["k"] != "v" {
		t.Errorf("the configuration that was given is changed: %+v", n.Config)
	}
	if h := im.History; len(h) != len(base.History)+1 || h[len(h)-1].CreatedBy != "sh -c x" || h[len(h)-1].EmptyLayer || h[len(h)-1].Comment != "why" {
		t.Errorf("history is %+v", h)
	}
	raw, err := s.store.ImageBigData(hexOf(id), string(id))
	must(t, err)
	var doc struct{ Container string }
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Container != "c0ffee" {
		t.Errorf("the container in %s is %q, %v", raw, doc.Container, err)
	}
	if _, files := members(t, save(t, s, "made:1")); files["blobs/sha256/"+porttest.Sum(diff)] != string(diff) {
		t.Error("the layer is not the tar that it was made of")
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Like docker, an empty layer is no layer; it is so compressed, too.
func TestMakeEmpty(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, boxed))
	must(t, err)
	base, err := s.Resolve(t.Context(), "box:1")
	must(t, err)
	for _, diff := range [][]byte{make([]byte, 1024), compressed(t, "gzip", make([]byte, 1024))} {
		id, err := s.Make(t.Context(), moss.NewImage{Base: base.ID, CreatedBy: "x"}, bytes.NewReader(diff))
		must(t, err)
		im, ok := s.get(id)
		if !ok || !slices.Equal(im.DiffIDs, base.DiffIDs) || !im.History[len(im.History)-1].EmptyLayer {
			t.Errorf("image is %+v", im)
		}
	}
	// Alone on nothing, too.
	id, err := s.Make(t.Context(), moss.NewImage{Reference: "nothing"}, bytes.NewReader(make([]byte, 1024)))
	must(t, err)
	if im, ok := s.get(id); !ok || len(im.DiffIDs) != 0 {
		t.Errorf("image is %+v", im)
	}
	got, err := load(t, open(t, t.TempDir()), save(t, s, "nothing"))
	if err != nil || len(got) != 1 || got[0].ID != id {
		t.Errorf("saved and loaded it is %v, %v", got, err)
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestMakeRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	_, err := load(t, s, porttest.DockerArchive(t, boxed))
	must(t, err)
	good := porttest.Tar(t, porttest.File{Name: "f", Text: "f"})
	lost := errors.New("connection lost")
	for name, c := range map[string]struct {
		n    moss.NewImage
		diff []byte
		want moss.Class
	}{
		"no base":   {moss.NewImage{Base: "sha256:" + moss.ImageID(strings.Repeat("0", 64))}, good, moss.NotFound},
		"bad name":  {moss.NewImage{Reference: "NO NAME"}, good, moss.Invalid},
		"bad text":  {moss.NewImage{Base: boxed.ID(t)}, []byte(strings.Repeat("text", 500)), moss.Invalid},
		"nothing":   {moss.NewImage{Base: boxed.ID(t)}, nil, moss.Invalid},
		"cut short": {moss.NewImage{Base: boxed.ID(t)}, good[:512], moss.Invalid},
		"change":    {moss.NewImage{Base: boxed.ID(t), Changes: []string{"RUN x"}}, good, moss.Invalid},
	} {
		if id, err := s.Make(t.Context(), c.n, bytes.NewReader(c.diff)); moss.ClassOf(err) != c.want || id != "" {
			t.Errorf("%s: Make is %q, %v; want %v", name, id, err, c.want)
		}
	}
	if _, err := s.Make(t.Context(), moss.NewImage{}, iotest.ErrReader(lost)); !errors.Is(err, lost) {
		t.Errorf("Make of a lost stream is %v", err)
	}
	if list, _ := s.List(t.Context()); len(list) != 1 {
		t.Errorf("there are %d images", len(list))
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
