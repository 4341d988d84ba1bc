package image

import (
	"context"
	"io"
	"runtime"

	"github.com/moss-containers/moss/pkg/moss"
)

// Import makes a one-layer image of a root file system's tar, compressed or not.
func (s *Store) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (_ moss.LoadedImage, err error) {
	defer func() { err = moss.Wrap(s.diskFull(err), "import the root file system", "") }()
	var name string
	if o.Reference != "" {
		if name, err = normalTag(o.Reference); err != nil {
			return moss.LoadedImage{}, err
		}
	}
	im := moss.Image{Created: now(), Comment: o.Message, Architecture: o.Architecture, OS: o.OS, Variant: o.Variant}
	if im.Architecture == "" {
		im.Architecture = runtime.GOARCH
	}
	if im.OS == "" {
		im.OS = runtime.GOOS
	}
	if im.Comment == "" {
		im.Comment = "Imported from -"
	}
	if im.Config, err = applyChanges(o.Changes); err != nil {
		return moss.LoadedImage{}, err
	}
	im.History = []moss.HistoryEntry{{Created: im.Created, Comment: im.Comment}}
	id, err := s.build(ctx, r, building{image: im}, name)
	if err != nil {
		return moss.LoadedImage{}, err
	}
	made := moss.LoadedImage{ID: id}
	if name != "" {
		made.Name = familiar(name)
	}
	return made, nil
}
