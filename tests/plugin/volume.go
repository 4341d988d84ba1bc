package plugin

import (
	"errors"
	"os"
	"time"

	"github.com/docker/go-plugins-helpers/volume"
)

// volumes is a driver whose volumes are directories: volumes/NAME, and users/NAME
// with a file for each user.
type volumes struct{ base }

func newVolumes(b base) server { return volume.NewHandler(volumes{b}) }

func (v volumes) Create(r *volume.CreateRequest) error {
	v.called("Create", r.Name)
	if why := r.Options["fail"]; why != "" {
		return errors.New(why)
	}
	if err := os.MkdirAll(v.path("users", r.Name), 0o700); err != nil {
		return err
	}
	return os.MkdirAll(v.path("volumes", r.Name), 0o755)
}

func (v volumes) List() (*volume.ListResponse, error) {
	v.called("List")
	entries, err := os.ReadDir(v.path("volumes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out := &volume.ListResponse{}
	for _, e := range entries {
		out.Volumes = append(out.Volumes, &volume.Volume{Name: e.Name()})
	}
	return out, nil
}

func (v volumes) Get(r *volume.GetRequest) (*volume.GetResponse, error) {
	v.called("Get", r.Name)
	info, err := os.Stat(v.path("volumes", r.Name))
	if err != nil {
		return nil, errors.New("there is no such volume")
	}
	users, err := os.ReadDir(v.path("users", r.Name))
	if err != nil {
		return nil, err
	}
	return &volume.GetResponse{Volume: &volume.Volume{Name: r.Name, CreatedAt: info.ModTime().UTC().Format(time.RFC3339), Status: map[string]any{"users": len(users)}}}, nil
}

func (v volumes) Remove(r *volume.RemoveRequest) error {
	v.called("Remove", r.Name)
	if err := os.Remove(v.path("users", r.Name)); err != nil {
		return errors.New("it is in use")
	}
	return os.RemoveAll(v.path("volumes", r.Name))
}

func (v volumes) Path(r *volume.PathRequest) (*volume.PathResponse, error) {
	v.called("Path", r.Name)
	return &volume.PathResponse{Mountpoint: v.path("volumes", r.Name)}, nil
}

func (v volumes) Mount(r *volume.MountRequest) (*volume.MountResponse, error) {
	v.called("Mount", r.Name, r.ID)
	if err := os.WriteFile(v.path("users", r.Name, r.ID), nil, 0o600); err != nil {
		return nil, err
	}
	return &volume.MountResponse{Mountpoint: v.path("volumes", r.Name)}, nil
}

func (v volumes) Unmount(r *volume.UnmountRequest) error {
	v.called("Unmount", r.Name, r.ID)
	return os.Remove(v.path("users", r.Name, r.ID))
}

func (v volumes) Capabilities() *volume.CapabilitiesResponse {
	return &volume.CapabilitiesResponse{Capabilities: volume.Capability{Scope: "global"}}
}
