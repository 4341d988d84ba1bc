package image

import (
	"context"
	"io"
	"runtime"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/image/hello"
	"github.com/moss-containers/moss/pkg/moss"
)

// EnsureBuiltin puts the image that comes with moss into the store where ref
// names it and it is not there; false when ref names another.
func (s *Store) EnsureBuiltin(ctx context.Context, ref string) (bool, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false, nil //nolint:nilerr // not even a name, so not ours
	}
	name := reference.TagNameOnly(named).String()
	if want, err := normalTag(hello.Name); err != nil || name != want {
		return false, err
	}
	if _, err := s.Resolve(ctx, name); err == nil {
		return true, nil
	}
	im := moss.Image{
		Created: hello.Created, Architecture: runtime.GOARCH, OS: runtime.GOOS, Config: hello.Config(),
		History: []moss.HistoryEntry{{Created: hello.Created, CreatedBy: "moss", Comment: "comes with moss"}},
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(hello.WriteLayer(pw)) }()
	_, err = s.build(ctx, pr, building{image: im}, name)
	_ = pr.Close() // ends the writer
	return true, moss.Wrap(err, "make the image", hello.Name)
}
