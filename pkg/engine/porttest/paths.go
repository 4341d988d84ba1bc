package porttest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// ContainerPaths tests an engine.ContainerPaths, which the fixture's Rootfs must be too.
func ContainerPaths(t *testing.T, open func(t *testing.T) RootfsFixture) {
	t.Run("copy", func(t *testing.T) { pathsCopy(t, open(t)) })
	t.Run("refused", func(t *testing.T) { pathsRefused(t, open(t)) })
	t.Run("changes", func(t *testing.T) { pathsChanges(t, open(t)) })
	t.Run("ends", func(t *testing.T) { pathsEnds(t, open(t)) })
}

// viewed makes a container to be looked at.
func viewed(t *testing.T, f RootfsFixture) (engine.ContainerPaths, moss.View) {
	t.Helper()
	id := newID()
	must(t, f.Rootfs.Create(t.Context(), id, f.Image))
	m, err := f.Rootfs.Mount(t.Context(), id)
	must(t, err)
	t.Cleanup(func() { must(t, f.Rootfs.Remove(context.WithoutCancel(t.Context()), id)) })
	return f.Rootfs.(engine.ContainerPaths), moss.View{Container: id, Rootfs: m}
}

func pathsCopy(t *testing.T, f RootfsFixture) {
	paths, v := viewed(t, f)
	st, err := paths.Stat(t.Context(), v, "/hello")
	must(t, err)
	if st.Name != "hello" || st.Size != 6 || !st.Mode.IsRegular() || st.ModTime.IsZero() {
		t.Errorf("Stat gives %+v", st)
	}
	must(t, paths.Unpack(t.Context(), v, "/", oneFile(t, "new", "new\n"), moss.UnpackOptions{}))
	must(t, paths.Unpack(t.Context(), v, "/", oneFile(t, "hello", "changed\n"), moss.UnpackOptions{KeepKinds: true}))
	wantText(t, v.Rootfs, "new", "new\n")
	wantText(t, v.Rootfs, "hello", "changed\n")
	st, r, err := paths.Pack(t.Context(), v, "/new")
	must(t, err)
	tr := tar.NewReader(r)
	h, err := tr.Next()
	must(t, err)
	text, err := io.ReadAll(tr)
	must(t, err)
	if st.Name != "new" || h.Name != "new" || string(text) != "new\n" {
		t.Errorf("Pack gives %+v, %q with %q", st, h.Name, text)
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the only file comes %v", err)
	}
	must(t, r.Close())
	if st, err := paths.Stat(t.Context(), v, "/"); err != nil || !st.Mode.IsDir() || st.Name != "/" {
		t.Errorf("Stat of the root gives %+v, %v", st, err)
	}
}

func pathsRefused(t *testing.T, f RootfsFixture) {
	paths, v := viewed(t, f)
	if _, err := paths.Stat(t.Context(), v, "/none"); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Stat of nothing gives %v", err)
	}
	if _, r, err := paths.Pack(t.Context(), v, "/none"); moss.ClassOf(err) != moss.NotFound || r != nil {
		t.Errorf("Pack of nothing gives %v", err)
	}
	if err := paths.Unpack(t.Context(), v, "/none", oneFile(t, "f", ""), moss.UnpackOptions{}); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("Unpack to nothing gives %v", err)
	}
	if err := paths.Unpack(t.Context(), v, "/hello", oneFile(t, "f", ""), moss.UnpackOptions{}); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("Unpack to a file gives %v", err)
	}
	wantText(t, v.Rootfs, "hello", "hello\n")
}

func pathsChanges(t *testing.T, f RootfsFixture) {
	paths, v := viewed(t, f)
	if got, err := paths.Changes(t.Context(), v.Container); err != nil || len(got) != 0 {
		t.Errorf("at first the changes are %v, %v", got, err)
	}
	must(t, paths.Unpack(t.Context(), v, "/", oneFile(t, "new", "new\n"), moss.UnpackOptions{}))
	must(t, paths.Unpack(t.Context(), v, "/", oneFile(t, "hello", "changed\n"), moss.UnpackOptions{}))
	want := []moss.Change{{Path: "/hello", Kind: moss.Modified}, {Path: "/new", Kind: moss.Added}}
	for range 2 { // mounted or not
		if got, err := paths.Changes(t.Context(), v.Container); err != nil || !slices.Equal(got, want) {
			t.Errorf("the changes are %v, %v", got, err)
		}
		must(t, f.Rootfs.Unmount(t.Context(), v.Container))
	}
	if _, err := paths.Changes(t.Context(), newID()); moss.ClassOf(err) != moss.NotFound {
		t.Errorf("the changes of nothing are %v", err)
	}
}

func pathsEnds(t *testing.T, f RootfsFixture) {
	paths, v := viewed(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	_, left, err := paths.Pack(ctx, v, "/hello")
	must(t, err)
	must(t, left.Close())
	cancel()
	if _, err := paths.Stat(ctx, v, "/hello"); !errors.Is(err, context.Canceled) {
		t.Errorf("Stat after the end of its context gives %v", err)
	}
	if err := paths.Unpack(ctx, v, "/", oneFile(t, "f", ""), moss.UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Unpack after the end of its context gives %v", err)
	}
}

func oneFile(t *testing.T, name, text string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}))
	_, err := io.WriteString(w, text)
	must(t, errors.Join(err, w.Close()))
	return &buf
}
