package secret

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// mountMemory mounts a tmpfs at dir unless one is there: XDG_RUNTIME_DIR is one
// on most machines, but nobody promises it.
func mountMemory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	on, err := mountinfo.Mounted(dir)
	if err != nil || on {
		return err
	}
	return os.NewSyscallError("mount", unix.Mount("moss-secrets", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"))
}

// Place writes the files of a container, in place of those it had, and tells
// how they are to be mounted.
func (s *Store) Place(ctx context.Context, id moss.ContainerID, uses []moss.SecretUse) ([]moss.MountPoint, error) {
	if err := s.Withdraw(ctx, id); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.o.RunDir, string(id))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, moss.Wrap(err, "place the secrets of", id.Short())
	}
	var points []moss.MountPoint
	for i, u := range uses {
		name := filepath.Join(dir, strconv.Itoa(i))
		if err := s.place(ctx, name, u); err != nil {
			return nil, errors.Join(moss.Wrap(err, "place the "+string(u.Kind), u.Name), s.Withdraw(ctx, id))
		}
		points = append(points, moss.MountPoint{Type: moss.MountBind, Source: name, Target: u.Target, ReadOnly: true, Propagation: "rprivate"})
	}
	return points, nil
}

func (s *Store) place(ctx context.Context, name string, u moss.SecretUse) error {
	data, err := s.Data(ctx, u.ID)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chown(int(u.UID), int(u.GID)), unixChmod(f, u.Mode), f.Close())
}

// unixChmod sets all twelve bits, which os.FileMode has elsewhere.
func unixChmod(f *os.File, mode uint32) error {
	return os.NewSyscallError("fchmod", unix.Fchmod(int(f.Fd()), mode))
}

// Withdraw removes the files of a container; nil when there are none.
func (s *Store) Withdraw(_ context.Context, id moss.ContainerID) error {
	return moss.Wrap(os.RemoveAll(filepath.Join(s.o.RunDir, string(id))), "remove the secrets of", id.Short())
}
