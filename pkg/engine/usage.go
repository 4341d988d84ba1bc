package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// usageWidth is how many containers are measured at a time.
const usageWidth = 4

// Usage tells what images and containers take on the disk. The images' sizes are
// kept; only what containers wrote is looked up.
func (s System) Usage(ctx context.Context) (moss.DiskUsage, error) {
	images, err := s.Images.List(ctx)
	if err != nil {
		return moss.DiskUsage{}, err
	}
	unused, err := s.Space.Unused(ctx)
	if err != nil {
		return moss.DiskUsage{}, err
	}
	usage := moss.DiskUsage{Unused: unused}
	sizes := sizesOf(images)
	for _, bytes := range sizes.size {
		usage.LayersSize += bytes
	}
	users := make(map[moss.ImageID]int)
	for _, c := range s.all() {
		users[c.record().Image]++
	}
	imageSize := make(map[moss.ImageID]int64, len(images))
	for _, image := range images {
		imageSize[image.ID] = image.Size
		if chainIDs(image) == nil { // its layers are not known one by one
			usage.LayersSize += image.Size
		}
		usage.Images = append(usage.Images, moss.ImageUsage{Image: image, SharedSize: sizes.shared(image), Containers: users[image.ID]})
	}
	usage.Containers, err = s.containerUsage(ctx)
	for i := range usage.Containers {
		c := &usage.Containers[i]
		c.Total = c.Written + imageSize[c.Container.Image]
	}
	return usage, err
}

// containerUsage measures what the containers wrote, several at a time.
func (s System) containerUsage(ctx context.Context) ([]moss.ContainerUsage, error) {
	var (
		wg    sync.WaitGroup
		all   = s.all()
		list  = make([]*moss.ContainerUsage, len(all)) // in their order; nil for one that went meanwhile
		errs  = make([]error, len(all))
		slots = make(chan struct{}, usageWidth)
	)
	for i, c := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			written, err := s.Files.Written(ctx, c.id)
			rec := c.record()
			switch {
			case err == nil:
				list[i] = &moss.ContainerUsage{Container: *rec, Written: written}
			case moss.ClassOf(err) != moss.NotFound:
				errs[i] = moss.Wrap(err, "measure", rec.Name)
			}
		})
	}
	wg.Wait()
	var usage []moss.ContainerUsage
	for _, u := range list {
		if u != nil {
			usage = append(usage, *u)
		}
	}
	return usage, errors.Join(errs...)
}
