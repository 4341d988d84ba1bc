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
	unused, copies, err := s.Space.Usage(ctx)
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
	for _, image := range images {
		if chainIDs(image) == nil { // its layers are not known one by one
			usage.LayersSize += image.Size
		}
		usage.LayersSize += copies[image.ID]
		usage.Images = append(usage.Images, moss.ImageUsage{Image: image, SharedSize: sizes.shared(image), Copies: copies[image.ID], Containers: users[image.ID]})
	}
	usage.Containers, err = s.containerUsage(ctx, s.all(), images)
	return usage, err
}

// Sizes tells what containers take on the disk; those that are gone are left out.
func (s Views) Sizes(ctx context.Context, ids []moss.ContainerID) (map[moss.ContainerID]moss.ContainerUsage, error) {
	images, err := s.Engine.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	var all []*container
	for _, id := range ids {
		if c, err := s.find(string(id)); err == nil {
			all = append(all, c)
		}
	}
	list, err := s.containerUsage(ctx, all, images)
	sizes := make(map[moss.ContainerID]moss.ContainerUsage, len(list))
	for i := range list {
		sizes[list[i].Container.ID] = list[i]
	}
	return sizes, err
}

// containerUsage measures what containers wrote, several at a time.
func (e *Engine) containerUsage(ctx context.Context, all []*container, images []moss.Image) ([]moss.ContainerUsage, error) {
	imageSize := make(map[moss.ImageID]int64, len(images))
	for _, image := range images {
		imageSize[image.ID] = image.Size
	}
	var (
		wg    sync.WaitGroup
		list  = make([]*moss.ContainerUsage, len(all)) // in their order; nil for one that went meanwhile
		errs  = make([]error, len(all))
		slots = make(chan struct{}, usageWidth)
	)
	for i, c := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			written, err := e.Files.Written(ctx, c.id)
			rec := c.record()
			switch {
			case err == nil:
				list[i] = &moss.ContainerUsage{Container: *rec, Written: written, Total: written + imageSize[rec.Image]}
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
