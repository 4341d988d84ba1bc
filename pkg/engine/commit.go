package engine

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// Commit makes an image of what a container changed, on top of its image. The
// container may run; with Pause its processes stand still while its files are read.
// A stop goes before: it lets them go.
func (s Files) Commit(ctx context.Context, q moss.CommitRequest) (_ moss.ImageID, err error) {
	var name string
	if q.Reference != "" {
		if name, err = tagOf(q.Reference); err != nil {
			return "", err
		}
	}
	ctx, r, err := s.read(ctx, q.Container, "commit")
	if err != nil {
		return "", err
	}
	defer r.end()
	thaw := func() error { return nil }
	if q.Pause {
		if thaw, err = s.freeze(ctx, r.c); err != nil {
			return "", r.failed(err)
		}
	}
	rec := r.c.record()
	id, err := s.makeImage(ctx, rec, newImage(rec, q, name), thaw)
	if err != nil {
		return id, r.failed(err)
	}
	ref := ""
	if name != "" {
		ref = familiar(name)
		s.imageEvent(ctx, "tag", id, ref)
	}
	s.publish(rec, "commit", time.Now(), "comment", q.Message, "imageID", string(id), "imageRef", ref)
	return id, nil
}

// makeImage makes an image of a container's changes; thaw is called as soon as they are read.
func (s Files) makeImage(ctx context.Context, rec *moss.Container, n moss.NewImage, thaw func() error) (moss.ImageID, error) {
	diff, err := s.Engine.Files.Diff(ctx, rec.ID)
	if err != nil {
		return "", errors.Join(err, thaw())
	}
	id, err := s.Maker.Make(ctx, n, &untilEnd{Reader: diff, end: func() {
		if err := thaw(); err != nil {
			s.Log.Error("a container still stands still after its commit; it is tried again to let it go", "container", rec.Name, "error", err)
		}
	}})
	// The maker may have stopped before the end.
	return id, errors.Join(err, diff.Close(), thaw())
}

// untilEnd calls end when its reader has ended.
type untilEnd struct {
	io.Reader
	end func()
}

func (r *untilEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.end()
	}
	return n, err
}

// newImage is what docker makes of a container and a request: the request's
// configuration in place of the container's, completed by that.
func newImage(rec *moss.Container, q moss.CommitRequest, name string) moss.NewImage {
	cfg := rec.Config
	if q.Config != nil {
		cfg = merge(*q.Config, rec.Config, q.Config.Entrypoint != nil)
	}
	return moss.NewImage{
		Base: rec.Image, Reference: name, Author: q.Author, Message: q.Message, CreatedBy: strings.Join(rec.Config.Cmd, " "),
		Config: cfg, Container: rec.ID, Changes: q.Changes,
	}
}

// tagOf is the normalised name:tag of a reference that an image is to have.
func tagOf(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", moss.Errorf(moss.Invalid, "%w", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", moss.Errorf(moss.Invalid, "refusing to create a tag with a digest reference")
	}
	return reference.TagNameOnly(named).String(), nil
}
