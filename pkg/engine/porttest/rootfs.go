// Package porttest has the contracts of the engine's ports as tests: what the
// fake and the real adapter of a port both must do.
package porttest

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// RootfsFixture is an empty Rootfs, and an image that has the file "hello" with the text "hello\n".
type RootfsFixture struct {
	Rootfs engine.Rootfs
	Image  moss.ImageID
}

// Rootfs tests an engine.Rootfs. open is called once a test.
func Rootfs(t *testing.T, open func(t *testing.T) RootfsFixture) {
	t.Run("life", func(t *testing.T) { rootfsLife(t, open(t)) })
	t.Run("absent", func(t *testing.T) { rootfsAbsent(t, open(t)) })
	t.Run("apart", func(t *testing.T) { rootfsApart(t, open(t)) })
	t.Run("parallel", func(t *testing.T) { rootfsParallel(t, open(t)) })
	t.Run("mapped", func(t *testing.T) { rootfsMapped(t, open(t)) })
}

// rootfsMapped tests an engine.MappedRootfs, where the Rootfs is one. The map has
// one id, which every test has.
func rootfsMapped(t *testing.T, f RootfsFixture) {
	m, ok := f.Rootfs.(engine.MappedRootfs)
	if !ok {
		return
	}
	ctx := t.Context()
	root := []moss.IDMap{{Size: 1}}
	for _, volatile := range []bool{false, true} {
		id := newID()
		must(t, m.CreateMapped(ctx, id, f.Image, moss.IDMaps{UIDs: root, GIDs: root}, volatile))
		wantIDs(t, f.Rootfs, id)
		at, err := f.Rootfs.Mount(ctx, id)
		must(t, err)
		wantText(t, at, "hello", "hello\n")
		must(t, os.WriteFile(filepath.Join(at.Path, "new"), []byte("new\n"), 0o600))
		must(t, f.Rootfs.Unmount(ctx, id))
		at, err = f.Rootfs.Mount(ctx, id)
		must(t, err)
		wantText(t, at, "new", "new\n")
		must(t, f.Rootfs.Remove(ctx, id))
		must(t, f.Rootfs.Remove(ctx, id))
		wantIDs(t, f.Rootfs)
	}
	other := []moss.IDMap{{Container: 5, Engine: 5, Size: 1}}
	if err := m.CreateMapped(ctx, newID(), f.Image, moss.IDMaps{UIDs: other, GIDs: other}, false); err == nil || moss.ClassOf(err) != moss.Invalid {
		t.Errorf("a map without root: %v", err)
	}
	wantIDs(t, f.Rootfs)
}

func rootfsLife(t *testing.T, f RootfsFixture) {
	ctx, id := t.Context(), newID()
	must(t, f.Rootfs.Create(ctx, id, f.Image))
	if err := f.Rootfs.Create(ctx, id, f.Image); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("a second Create gives %v, want a conflict", err)
	}
	wantIDs(t, f.Rootfs, id)
	m, err := f.Rootfs.Mount(ctx, id)
	must(t, err)
	wantText(t, m, "hello", "hello\n")
	must(t, os.WriteFile(filepath.Join(m.Path, "hello"), []byte("changed\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(m.Path, "new"), []byte("new\n"), 0o600))
	again, err := f.Rootfs.Mount(ctx, id)
	must(t, err)
	if again != m {
		t.Errorf("mounting again gives %v, want %v", again, m)
	}
	// One Unmount undoes any number of Mounts.
	must(t, f.Rootfs.Unmount(ctx, id))
	must(t, f.Rootfs.Unmount(ctx, id))
	m, err = f.Rootfs.Mount(ctx, id)
	must(t, err)
	wantText(t, m, "hello", "changed\n")
	wantText(t, m, "new", "new\n")
	// Remove does not need an Unmount before.
	must(t, f.Rootfs.Remove(ctx, id))
	must(t, f.Rootfs.Remove(ctx, id))
	if _, err := os.Stat(filepath.Join(m.Path, "hello")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove the mount is still there: %v", err)
	}
	wantIDs(t, f.Rootfs)
}

func rootfsAbsent(t *testing.T, f RootfsFixture) {
	ctx, id := t.Context(), newID()
	must(t, f.Rootfs.Unmount(ctx, id))
	must(t, f.Rootfs.Remove(ctx, id))
	if _, err := f.Rootfs.Mount(ctx, id); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Mount of nothing gives %v, want not found", err)
	}
	if err := f.Rootfs.Create(ctx, id, moss.ImageID("sha256:"+moss.NewHexID())); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Create of no image gives %v, want not found", err)
	}
	wantIDs(t, f.Rootfs)
}

func rootfsApart(t *testing.T, f RootfsFixture) {
	ctx, a, b := t.Context(), newID(), newID()
	for _, id := range []moss.ContainerID{a, b} {
		must(t, f.Rootfs.Create(ctx, id, f.Image))
	}
	ma, err := f.Rootfs.Mount(ctx, a)
	must(t, err)
	must(t, os.Remove(filepath.Join(ma.Path, "hello")))
	mb, err := f.Rootfs.Mount(ctx, b)
	must(t, err)
	wantText(t, mb, "hello", "hello\n")
	must(t, f.Rootfs.Remove(ctx, a))
	wantText(t, mb, "hello", "hello\n")
	must(t, f.Rootfs.Remove(ctx, b))
	wantIDs(t, f.Rootfs)
}

func rootfsParallel(t *testing.T, f RootfsFixture) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx, id := t.Context(), newID()
			m, err := moss.Mount{}, f.Rootfs.Create(ctx, id, f.Image)
			if err == nil {
				m, err = f.Rootfs.Mount(ctx, id)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(m.Path, "mine"), []byte(id), 0o600)
			}
			if err = errors.Join(err, f.Rootfs.Unmount(ctx, id), f.Rootfs.Remove(ctx, id)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantIDs(t, f.Rootfs)
}

// RootfsFiles tests an engine.RootfsFiles, which the fixture's Rootfs must be too.
func RootfsFiles(t *testing.T, open func(t *testing.T) RootfsFixture) {
	t.Run("changes", func(t *testing.T) { filesChanges(t, open(t)) })
	t.Run("never started", func(t *testing.T) { filesNeverStarted(t, open(t)) })
	t.Run("absent", func(t *testing.T) { filesAbsent(t, open(t)) })
	t.Run("ends", func(t *testing.T) { filesEnds(t, open(t)) })
}

func filesChanges(t *testing.T, f RootfsFixture) {
	ctx, id := t.Context(), newID()
	files := f.Rootfs.(engine.RootfsFiles)
	must(t, f.Rootfs.Create(ctx, id, f.Image))
	m, err := f.Rootfs.Mount(ctx, id)
	must(t, err)
	must(t, os.Remove(filepath.Join(m.Path, "hello")))
	must(t, os.WriteFile(filepath.Join(m.Path, "new"), []byte("new\n"), 0o600))
	for _, mounted := range []bool{true, false} {
		wantTar(t, "Diff", mounted, files.Diff, id, map[string]string{".wh.hello": "", "new": "new\n"})
		wantTar(t, "Export", mounted, files.Export, id, map[string]string{"new": "new\n"})
		for range 2 { // the second may be remembered
			wantWritten(t, files, id, 4)
		}
		must(t, f.Rootfs.Unmount(ctx, id))
	}
	// What was measured does not outlive a mount.
	m, err = f.Rootfs.Mount(ctx, id)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(m.Path, "more"), []byte("more\n"), 0o600))
	wantWritten(t, files, id, 9)
	must(t, f.Rootfs.Unmount(ctx, id))
	wantWritten(t, files, id, 9)
	must(t, f.Rootfs.Remove(ctx, id))
}

func filesNeverStarted(t *testing.T, f RootfsFixture) {
	ctx, id := t.Context(), newID()
	files := f.Rootfs.(engine.RootfsFiles)
	must(t, f.Rootfs.Create(ctx, id, f.Image))
	wantTar(t, "Diff", false, files.Diff, id, map[string]string{})
	wantTar(t, "Export", false, files.Export, id, map[string]string{"hello": "hello\n"})
	wantWritten(t, files, id, 0)
	must(t, f.Rootfs.Remove(ctx, id))
}

func filesAbsent(t *testing.T, f RootfsFixture) {
	files := f.Rootfs.(engine.RootfsFiles)
	for _, open := range []func(context.Context, moss.ContainerID) (io.ReadCloser, error){files.Diff, files.Export} {
		if r, err := open(t.Context(), newID()); moss.ClassOf(err) != moss.NotFound {
			t.Errorf("reading what is not there gives %v, %v, want not found", r, err)
		}
	}
	if _, err := files.Written(t.Context(), newID()); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Written of nothing gives %v, want not found", err)
	}
}

// filesEnds has readers that do not read, and other work going on meanwhile.
func filesEnds(t *testing.T, f RootfsFixture) {
	id := newID()
	files := f.Rootfs.(engine.RootfsFiles)
	must(t, f.Rootfs.Create(t.Context(), id, f.Image))
	ctx, cancel := context.WithCancel(t.Context())
	slow, err := files.Export(ctx, id)
	must(t, err)
	left, err := files.Diff(t.Context(), id)
	must(t, err)
	other := newID()
	must(t, f.Rootfs.Create(t.Context(), other, f.Image))
	_, err = f.Rootfs.Mount(t.Context(), other)
	must(t, err)
	must(t, f.Rootfs.Remove(t.Context(), other))
	cancel()
	if _, err := io.Copy(io.Discard, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the end of the context gives %v", err)
	}
	must(t, slow.Close())
	must(t, left.Close())
	if r, err := files.Export(ctx, id); err == nil {
		_, err = io.Copy(io.Discard, r)
		if err == nil {
			t.Error("an Export whose context had ended was read to the end")
		}
	}
	must(t, f.Rootfs.Remove(t.Context(), id))
}

func wantTar(t *testing.T, what string, mounted bool, open func(context.Context, moss.ContainerID) (io.ReadCloser, error), id moss.ContainerID, want map[string]string) {
	t.Helper()
	r, err := open(t.Context(), id)
	must(t, err)
	got := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(tr)
		must(t, err)
		got[h.Name] = string(text)
	}
	must(t, r.Close())
	if !maps.Equal(got, want) {
		t.Errorf("%s (mounted %v) gives %q, want %q", what, mounted, got, want)
	}
}

func wantWritten(t *testing.T, files engine.RootfsFiles, id moss.ContainerID, want int64) {
	t.Helper()
	if n, err := files.Written(t.Context(), id); n != want || err != nil {
		t.Errorf("Written is %d, %v, want %d", n, err, want)
	}
}

func newID() moss.ContainerID { return moss.ContainerID(moss.NewHexID()) }

func wantText(t *testing.T, m moss.Mount, name, want string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Path, name))
	if err != nil || string(b) != want {
		t.Errorf("%s is %q (%v), want %q", name, b, err, want)
	}
}

func wantIDs(t *testing.T, r engine.Rootfs, want ...moss.ContainerID) {
	t.Helper()
	got, err := r.List(t.Context())
	must(t, err)
	if len(got) != len(want) || (len(want) == 1 && got[0] != want[0]) {
		t.Errorf("List gives %v, want %v", got, want)
	}
}
