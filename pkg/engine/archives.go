package engine

import (
	"context"
	"io"

	"github.com/moss-containers/moss/pkg/moss"
)

// Archives brings images in.
type Archives struct{ *Engine }

// ArchiveService returns the service that brings images in.
func (e *Engine) ArchiveService() Archives { return Archives{e} }

// Load reads images from an archive.
func (s Archives) Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	images, err := s.Engine.Archives.Load(ctx, r, o, progress)
	for _, i := range images {
		s.imageEvent("load", i.ID, first(i.Name, string(i.ID)))
	}
	return images, err
}

// Import makes an image of a root file system.
func (s Archives) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	image, err := s.Engine.Archives.Import(ctx, r, o)
	if err == nil {
		s.imageEvent("import", image.ID, first(image.Name, string(image.ID)))
	}
	return image, err
}

// Pull finds an image that is here or comes with moss. Errors: NotImplemented
// for any other, as there is no registry client yet.
func (s Archives) Pull(ctx context.Context, ref string) (moss.Image, error) {
	image, err := s.resolveOrBuiltin(ctx, ref)
	if moss.ClassOf(err) == moss.NotFound {
		return image, moss.Errorf(moss.NotImplemented, "cannot pull %q: moss does not speak to registries yet; bring the image in with 'docker load -i FILE' or 'docker import FILE'", ref)
	}
	return image, err
}

// resolveOrBuiltin finds an image; one that comes with moss is unpacked when it
// is first asked for.
func (e *Engine) resolveOrBuiltin(ctx context.Context, ref string) (moss.Image, error) {
	image, err := e.Images.Resolve(ctx, ref)
	if moss.ClassOf(err) != moss.NotFound {
		return image, err
	}
	ours, builtinErr := e.Deps.Archives.EnsureBuiltin(ctx, ref)
	if builtinErr != nil {
		return moss.Image{}, builtinErr
	}
	if !ours {
		return moss.Image{}, err
	}
	return e.Images.Resolve(ctx, ref)
}
