package engine

import (
	"context"
	"strings"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// Transfers moves images from and to registries.
type Transfers struct{ *Engine }

// TransferService returns the service that moves images.
func (e *Engine) TransferService() Transfers { return Transfers{e} }

// Pull brings an image, or every tag's of a name. What it brought before an
// error is returned with it. One that comes with moss needs no registry.
func (s Transfers) Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error) {
	images, ours, err := s.pullBuiltin(ctx, r, progress)
	if !ours && err == nil {
		images, err = s.Engine.Transfers.Pull(ctx, r, progress)
	}
	for _, i := range images {
		s.transferEvent(ctx, "pull", i.Ref, i.ID)
	}
	return images, err
}

// pullBuiltin unpacks an image that comes with moss, unless it is there.
func (s Transfers) pullBuiltin(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) (_ []moss.PulledImage, ours bool, err error) {
	if r.All {
		return nil, false, nil
	}
	_, err = s.Images.Resolve(ctx, r.Ref)
	fresh := moss.ClassOf(err) == moss.NotFound
	if ours, err = s.Archives.EnsureBuiltin(ctx, r.Ref); err != nil || !ours {
		return nil, false, err
	}
	image, err := s.Images.Resolve(ctx, r.Ref)
	if err != nil {
		return nil, true, err
	}
	if err := checkPlatform(image, familiar(r.Ref), r.Platform); err != nil {
		return nil, true, err
	}
	name, tag := familiarName(r.Ref), "latest"
	if t, ok := strings.CutPrefix(familiar(r.Ref), name+":"); ok {
		tag = t
	}
	status := "Status: Image is up to date for "
	if fresh {
		status = "Status: Downloaded newer image for "
	}
	progress(moss.Progress{ID: tag, Status: "Pulling from " + name})
	if image.Digest != "" {
		progress(moss.Progress{Status: "Digest: " + image.Digest})
	}
	progress(moss.Progress{Status: status + familiar(r.Ref)})
	return []moss.PulledImage{{Ref: r.Ref, ID: image.ID, Digest: image.Digest, New: fresh}}, true, nil
}

// Push sends an image, or every tag of a name.
func (s Transfers) Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error) {
	images, err := s.Engine.Transfers.Push(ctx, r, progress)
	for _, i := range images {
		ref := r.Ref
		if r.All {
			ref += ":" + i.Tag
		}
		var id moss.ImageID
		if image, err := s.Images.Resolve(ctx, ref); err == nil {
			id = image.ID
		}
		s.transferEvent(ctx, "push", ref, id)
	}
	return images, err
}

// transferEvent tells of an image that came or went. As docker has it, the
// actor is the name it went by.
func (s Transfers) transferEvent(ctx context.Context, action, ref string, id moss.ImageID) {
	s.publishImage(action, familiar(ref), s.labelsOf(ctx, id), "name", familiarName(ref))
}

// familiar is a reference as users write it: busybox:latest.
func familiar(ref string) string {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		return reference.FamiliarString(named)
	}
	return ref
}

// familiarName is the same without tag and digest: busybox.
func familiarName(ref string) string {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		return reference.FamiliarName(named)
	}
	return ref
}
