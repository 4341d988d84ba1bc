package storage

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// A daemon killed between a mount and the note of it leaves a mount that the
// store does not count; the next start mounts over it.
func TestUncountedMountsGo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, driverOverlay)
	img := image(t, s)
	for _, counted := range []bool{true, false} {
		id := moss.ContainerID(moss.NewHexID())
		must(t, s.Create(t.Context(), id, img))
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		if !counted {
			must(t, s.Unmount(t.Context(), id))
			must(t, os.MkdirAll(m.Path, 0o700))
		}
		must(t, unix.Mount(m.Path, m.Path, "", unix.MS_BIND, ""))
		if !counted {
			must(t, s.Close())
			s = open(t, dir, driverOverlay)
			must(t, s.Unmount(t.Context(), id))
			wantNoMounts(t, m.Path)
		}
		must(t, s.Remove(t.Context(), id))
		wantNoMounts(t, m.Path)
	}
}
