package engine

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Images is the image side.
type Images struct{ *Engine }

// ImageService returns the service of the image side.
func (e *Engine) ImageService() Images { return Images{e} }

// Get finds an image by name, id or unique id prefix.
func (s Images) Get(ctx context.Context, ref string) (moss.Image, error) {
	return s.Engine.Images.Resolve(ctx, ref)
}

// List returns every image.
func (s Images) List(ctx context.Context) ([]moss.Image, error) {
	return s.Engine.Images.List(ctx)
}

// Tag gives an image a further name.
func (s Images) Tag(ctx context.Context, ref, name string) error {
	image, release, err := s.claim(ctx, ref, false)
	if err != nil {
		return err
	}
	defer release()
	normal, err := s.Engine.Images.Tag(ctx, image.ID, name)
	if err != nil {
		return err
	}
	s.imageEvent(ctx, "tag", image.ID, familiar(normal))
	return nil
}

// checkPlatform refuses an image of another platform than the one asked for, if any is.
func checkPlatform(image moss.Image, ref, platform string) error {
	if platform == "" || platform == image.OS {
		return nil
	}
	have := image.OS + "/" + image.Architecture
	if platform == have {
		return nil
	}
	if image.Variant != "" {
		if have += "/" + image.Variant; platform == have {
			return nil
		}
	}
	return moss.Errorf(moss.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, have, platform)
}

// alsoRuns are the architectures that a machine's processor runs besides its own.
var alsoRuns = map[string]string{"amd64": "386", "arm64": "arm"}

// foreign warns of an image that is for another machine than this one, where nobody asked for its platform.
func foreign(image moss.Image, asked string) (warnings []string) {
	own := runtime.GOARCH
	if has := image.Architecture; asked != "" || has == "" || has == own || has == alsoRuns[own] {
		return nil
	}
	return []string{fmt.Sprintf("The requested image's platform (%s/%s) does not match the detected host platform (linux/%s) and no specific platform was requested",
		image.OS, image.Architecture, own)}
}

// imageEvent tells of an image's change, with docker's attributes.
func (e *Engine) imageEvent(ctx context.Context, action string, id moss.ImageID, name string) {
	e.publishImage(action, string(id), e.labelsOf(ctx, id), "name", name)
}

// labelsOf are the labels of an image; none of one that is gone.
func (e *Engine) labelsOf(ctx context.Context, id moss.ImageID) map[string]string {
	if id == "" {
		return nil
	}
	image, err := e.Images.Resolve(context.WithoutCancel(ctx), string(id))
	if err != nil {
		return nil
	}
	return image.Config.Labels
}

func (e *Engine) publishImage(action, actor string, labels map[string]string, extra ...string) {
	attrs := make(map[string]string, len(labels)+len(extra)/2)
	maps.Copy(attrs, labels)
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	e.Events.Publish(moss.Event{Type: moss.ImageEvent, Action: action, ActorID: actor, Attributes: attrs, Time: time.Now()})
}
