package engine

import (
	"context"
	"io"

	"github.com/moss-containers/moss/pkg/moss"
)

// Archives brings images in and out without a registry.
type Archives struct{ *Engine }

// ArchiveService returns the service that reads and writes archives.
func (e *Engine) ArchiveService() Archives { return Archives{e} }

// Load reads images from an archive.
func (s Archives) Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	images, err := s.Engine.Archives.Load(ctx, r, o, progress)
	told := make(map[moss.ImageID]bool, len(images))
	for _, i := range images {
		if !told[i.ID] { // it may have come with several names
			s.imageEvent(ctx, "load", i.ID, string(i.ID))
		}
		told[i.ID] = true
	}
	return images, err
}

// Import makes an image of a root file system.
func (s Archives) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	image, err := s.Engine.Archives.Import(ctx, r, o)
	if err == nil {
		s.imageEvent(ctx, "import", image.ID, string(image.ID))
	}
	return image, err
}

// Save writes an archive of images to w. Nothing is written when one of them is not there.
func (s Archives) Save(ctx context.Context, r moss.SaveRequest, w io.Writer) error {
	ids, err := s.Saver.Save(ctx, r, w)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s.imageEvent(ctx, "save", id, string(id))
	}
	return nil
}

// Attestations returns the statements kept with an image, of all types for none.
func (s Archives) Attestations(ctx context.Context, ref, platform string, types []string) ([]moss.Attestation, error) {
	image, err := s.Images.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(image, ref, platform); err != nil {
		return nil, err
	}
	return s.Maker.Attestations(ctx, image.ID, types)
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
