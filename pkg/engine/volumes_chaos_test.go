package engine_test

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

// faultyVolumes are the three ports of volumes.
type faultyVolumes struct {
	*fake.Volumes
	f *faults
}

func (v faultyVolumes) Create(ctx context.Context, r moss.VolumeRequest) (moss.Volume, bool, error) {
	if err := v.f.hit("Volumes.Create"); err != nil {
		return moss.Volume{}, false, err
	}
	return v.Volumes.Create(ctx, r)
}

func (v faultyVolumes) Remove(ctx context.Context, name string) error {
	if err := v.f.hit("Volumes.Remove"); err != nil {
		return err
	}
	return v.Volumes.Remove(ctx, name)
}

func (v faultyVolumes) Fill(ctx context.Context, name string, from moss.Mount, dir string) error {
	if err := v.f.hit("VolumeData.Fill"); err != nil {
		return err
	}
	return v.Volumes.Fill(ctx, name, from, dir)
}

func (v faultyVolumes) Mount(ctx context.Context, name string, id moss.ContainerID) error {
	if err := v.f.hit("VolumeMounts.Mount"); err != nil {
		return err
	}
	return v.Volumes.Mount(ctx, name, id)
}

func (v faultyVolumes) Unmount(ctx context.Context, name string, id moss.ContainerID) error {
	if err := v.f.hit("VolumeMounts.Unmount"); err != nil {
		return err
	}
	return v.Volumes.Unmount(ctx, name, id)
}

func (v faultyVolumes) Expose(ctx context.Context, id moss.ContainerID, points []moss.MountPoint) ([]moss.MountPoint, error) {
	if err := v.f.hit("VolumeMounts.Expose"); err != nil {
		return nil, err
	}
	return v.Volumes.Expose(ctx, id, points)
}

func (v faultyVolumes) Conceal(ctx context.Context, id moss.ContainerID) error {
	if err := v.f.hit("VolumeMounts.Conceal"); err != nil {
		return err
	}
	return v.Volumes.Conceal(ctx, id)
}

// withSomeVolumes gives a container one of three volumes, and an anonymous one.
func withSomeVolumes(rnd *rand.Rand) option {
	return func(q *moss.CreateRequest) {
		m := moss.MountPoint{Type: moss.MountVolume, Name: [...]string{"v1", "v2", "mem"}[rnd.IntN(3)], Target: "/v"}
		if m.Name == "mem" {
			m.Ask = &moss.VolumeRequest{Options: map[string]string{"type": "tmpfs"}}
		}
		q.Host.Mounts = append(q.Host.Mounts, m)
		q.Config.Volumes = []string{"/anon"}
		withLabel(moss.SecretLabel+"db", "")(q)
		if rnd.IntN(2) == 0 {
			q.Host.Mounts = append(q.Host.Mounts, moss.MountPoint{Type: moss.MountImage, Name: "box", Target: "/image", ReadOnly: true})
		}
	}
}

func (r *rig) anythingWithVolumes(rnd *rand.Rand, name string) error {
	ctx := r.t.Context()
	var err error
	switch rnd.IntN(3) {
	case 0:
		err = r.VolumeService().Remove(ctx, [...]string{"v1", "v2", "mem"}[rnd.IntN(3)], true)
	case 1:
		_, err = r.VolumeService().Prune(ctx, moss.VolumeFilter{All: rnd.IntN(2) == 0})
	case 2:
		err = r.VolumeService().RemoveContainer(ctx, name, rnd.IntN(2) == 0)
	}
	return err
}

// wrongVolumes says which volume that a container has is not there, and what is
// mounted of those that nobody runs with.
func (r *rig) wrongVolumes(all []*moss.Container, say func(string, ...any)) {
	used := make(map[string]bool)
	for _, rec := range all {
		for _, m := range rec.Mounts {
			if m.Type != moss.MountVolume {
				continue
			}
			used[m.Name] = used[m.Name] || rec.State.Alive()
			if _, err := r.volumes.Get(m.Name); err != nil {
				say("%s is %s and has lost its volume %s", rec.Name, rec.State, m.Name)
			}
		}
		if has := slices.ContainsFunc(rec.Mounts, func(m moss.MountPoint) bool { return m.Type == moss.MountVolume || m.Type == moss.MountImage }); r.volumes.Exposed(rec.ID) != (has && rec.State.Alive()) {
			say("%s is %s, its volumes are exposed: %v", rec.Name, rec.State, r.volumes.Exposed(rec.ID))
		}
	}
	for _, v := range r.volumes.List() {
		if r.volumes.Mounted(v.Name) && !used[v.Name] {
			say("volume %s stays mounted", v.Name)
		}
	}
}
