package storage

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

// A file that is closed slowly cannot be had; one whose predecessor is not gone
// yet stands for it.
func TestLeaving(t *testing.T) {
	id, other := moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID())
	synctest.Test(t, func(t *testing.T) {
		var l leaving
		l.add(id, nil)
		must(t, l.wait(t.Context(), id))
		slow := make(chan struct{})
		l.gone = map[moss.ContainerID]chan struct{}{id: slow}
		must(t, l.wait(t.Context(), other))
		f, err := os.Open("/")
		must(t, err)
		l.add(id, f)
		synctest.Wait()
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file is not closed: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.wait(ctx, id); !errors.Is(err, context.Canceled) {
			t.Errorf("waited in spite of the end: %v", err)
		}
		waited := make(chan error, 1)
		go func() { waited <- l.wait(t.Context(), id) }()
		synctest.Wait()
		select {
		case err := <-waited:
			t.Errorf("not waited for the one before: %v", err)
		default:
		}
		close(slow)
		must(t, <-waited)
		l.wg.Wait()
		if len(l.gone) > 0 {
			t.Errorf("left: %v", l.gone)
		}
	})
}

// A layer can be mounted again at once, as often as one likes, with what was written.
func TestMountAgainAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := open(t, t.TempDir(), driver)
		id, path := container(t, s, image(t, s, hello))
		for n := range byte(20) {
			must(t, os.WriteFile(path+"/counter", []byte{n}, 0o600))
			must(t, s.Unmount(t.Context(), id))
			m, err := s.Mount(t.Context(), id)
			must(t, err)
			path = m.Path
			if b, err := os.ReadFile(path + "/counter"); err != nil || len(b) != 1 || b[0] != n {
				t.Fatalf("after %d: %v, %v", n, b, err)
			}
		}
		must(t, s.Unmount(t.Context(), id))
	})
}
