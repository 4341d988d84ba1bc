package api

import (
	"context"

	"github.com/moss-containers/moss/pkg/moss"
)

// fakeVolumes is the service of volumes with one volume, "data", which
// container c has.
type fakeVolumes struct {
	asked any // what it was last asked
}

var dataVolume = moss.Volume{Name: "data", Driver: "local", Labels: map[string]string{"a": "b"}, Path: "/d/volumes/data/_data"}

func (f *fakeVolumes) Create(_ context.Context, r moss.VolumeRequest) (moss.Volume, error) {
	f.asked = r
	return moss.Volume{Name: r.Name, Driver: "local", Options: r.Options, Labels: r.Labels, Path: "/d/volumes/" + r.Name + "/_data"}, nil
}

func (f *fakeVolumes) Get(_ context.Context, name string) (moss.Volume, error) {
	if name == "data" {
		return dataVolume, nil
	}
	return moss.Volume{}, moss.Errorf(moss.NotFound, "get %s: no such volume", name)
}

func (f *fakeVolumes) List(_ context.Context, q moss.VolumeFilter) ([]moss.Volume, []string) {
	f.asked = q
	if len(q.Names) > 0 && q.Names[0] == "none" {
		return nil, []string{"list far: it is away"}
	}
	return []moss.Volume{dataVolume}, nil
}

func (f *fakeVolumes) Remove(ctx context.Context, name string, force bool) error {
	if _, err := f.Get(ctx, name); err != nil && !force {
		return err
	}
	if name == "data" {
		return moss.Errorf(moss.Conflict, "remove data: volume is in use - [c]")
	}
	return nil
}

func (f *fakeVolumes) Prune(_ context.Context, q moss.VolumeFilter) (moss.VolumesPruned, error) {
	f.asked = q
	return moss.VolumesPruned{Removed: []string{"gone"}, Reclaimed: 7}, nil
}

func (f *fakeVolumes) Usage(context.Context) ([]moss.VolumeUsage, error) {
	return []moss.VolumeUsage{{Volume: dataVolume, Size: 5, Containers: 1}}, nil
}

func (f *fakeVolumes) RemoveContainer(context.Context, string, bool) error { return nil }
