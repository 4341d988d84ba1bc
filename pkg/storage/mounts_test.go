package storage

import (
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// What an earlier process mounted is known, and what nobody did is not asked for.
func TestMountsOfEarlierProcesses(t *testing.T) {
	for _, driver := range []string{driverOverlay, driverVFS} {
		t.Run(driver, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, driver)
			img := image(t, s)
			mounted, idle := moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID())
			for _, id := range []moss.ContainerID{mounted, idle} {
				must(t, s.Create(t.Context(), id, img))
			}
			_, err := s.Mount(t.Context(), mounted)
			must(t, err)
			must(t, s.Close())

			s = open(t, dir, driver)
			if !s.mounts.has(mounted) || s.mounts.has(idle) {
				t.Errorf("mounted: %v, idle: %v", s.mounts.has(mounted), s.mounts.has(idle))
			}
			for _, id := range []moss.ContainerID{mounted, idle} {
				must(t, s.Unmount(t.Context(), id))
				if n, err := s.mounted(id); n != 0 || err != nil {
					t.Errorf("mounted %d times, %v", n, err)
				}
				if s.mounts.has(id) {
					t.Error("an unmounted one is still asked for")
				}
			}
			m, err := s.Mount(t.Context(), idle)
			must(t, err)
			must(t, s.Unmount(t.Context(), idle))
			if driver == driverOverlay {
				wantNoMounts(t, m.Path)
			}
			for _, id := range []moss.ContainerID{mounted, idle} {
				must(t, s.Remove(t.Context(), id))
			}
		})
	}
}
