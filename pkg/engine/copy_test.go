package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// faultyPaths fails and dies like the other adapters.
type faultyPaths struct {
	engine.ContainerPaths
	f *faults
}

func (p faultyPaths) Stat(ctx context.Context, v moss.View, path string) (moss.PathStat, error) {
	if err := p.f.hit("Paths.Stat"); err != nil {
		return moss.PathStat{}, err
	}
	return p.ContainerPaths.Stat(ctx, v, path)
}

func (p faultyPaths) Pack(ctx context.Context, v moss.View, path string) (moss.PathStat, io.ReadCloser, error) {
	if err := p.f.hit("Paths.Pack"); err != nil {
		return moss.PathStat{}, nil, err
	}
	return p.ContainerPaths.Pack(ctx, v, path)
}

func (p faultyPaths) Unpack(ctx context.Context, v moss.View, path string, r io.Reader, o moss.UnpackOptions) error {
	if err := p.f.hit("Paths.Unpack"); err != nil {
		return err
	}
	return p.ContainerPaths.Unpack(ctx, v, path, r, o)
}

func oneFile(t *testing.T, name, text string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))})
	_, werr := io.WriteString(w, text)
	if err := errors.Join(err, werr, w.Close()); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func (r *rig) unpack(ref, path string) error {
	return r.CopyService().Unpack(r.t.Context(), ref, path, oneFile(r.t, "new", "text"), true, false)
}

func TestCopy(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		for range 2 { // not yet started, and running
			r.must(r.unpack("web", "/"))
			st, err := r.CopyService().Stat(t.Context(), "web", "/new")
			if err != nil || st.Name != "new" || st.Size != 4 {
				t.Errorf("%+v, %v", st, err)
			}
			_, tree, err := r.CopyService().Pack(t.Context(), "web", "/new")
			r.must(err)
			text, err := io.ReadAll(tree)
			r.must(errors.Join(err, tree.Close(), tree.Close()))
			if !bytes.Contains(text, []byte("text")) {
				t.Errorf("the tar is %q", text)
			}
			list, err := r.CopyService().Changes(t.Context(), "web")
			if err != nil || !slices.Contains(list, moss.Change{Path: "/new", Kind: moss.Added}) {
				t.Errorf("%v, %v", list, err)
			}
			if r.get(id).State == moss.StateCreated {
				if m := r.rootfs.Mounted(); len(m) != 0 {
					t.Errorf("still mounted: %v", m)
				}
				r.start(id)
			}
		}
		r.wantActions(id, "create", "extract-to-dir", "archive-path", "start", "extract-to-dir", "archive-path")
		for path, class := range map[string]moss.Class{"/none": moss.NotFound, "/new": moss.Invalid} {
			r.wantClass(r.unpack("web", path), class)
		}
		if err := r.unpack("web", "/none"); err.Error() != "Could not find the file /none in container web" {
			t.Error(err)
		}
		_, err := r.CopyService().Stat(t.Context(), "nobody", "/")
		r.wantClass(err, moss.NotFound)
		r.check()
	})
}

// The root file system stays mounted as long as somebody looks, and no longer.
func TestLooksOverlapRuns(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		r.must(r.unpack("web", "/"))
		pack := func() io.ReadCloser {
			t.Helper()
			_, tree, err := r.CopyService().Pack(t.Context(), "web", "/new")
			r.must(err)
			return tree
		}
		mounted := func(want bool) {
			t.Helper()
			if got := slices.Contains(r.rootfs.Mounted(), id); got != want {
				t.Errorf("mounted: %v", got)
			}
		}
		before := pack()
		r.start(id) // no copy holds up a start, nor an end
		r.must(before.Close())
		mounted(true)
		during, other := pack(), pack()
		r.must(r.stop(id))
		mounted(true)
		r.must(during.Close())
		mounted(true)
		r.must(other.Close())
		mounted(false)
		after := pack()
		r.wantClass(r.Containers().Remove(t.Context(), "web", false), moss.Conflict)
		removed := make(chan error)
		go func() { removed <- r.Containers().Remove(t.Context(), "web", true) }()
		settle()
		if _, err := io.ReadAll(after); err == nil {
			t.Error("a copy of what is removed by force goes on")
		}
		r.must(after.Close())
		r.must(<-removed)
		r.check()
	})
}

// One who sends nothing holds up no removal by force.
func TestStalledUnpack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.create(named("web"))
		body, client := io.Pipe()
		unpacked := make(chan error)
		go func() { unpacked <- r.CopyService().Unpack(t.Context(), "web", "/", body, false, false) }()
		settle()
		r.must(r.Containers().Remove(t.Context(), "web", true))
		if err := <-unpacked; moss.ClassOf(err) != moss.Conflict || !strings.Contains(err.Error(), "removed") {
			t.Errorf("the copy ended with %v", err)
		}
		r.must(client.Close())
		r.check()
	})
}

func TestEveryStepOfACopyCanFail(t *testing.T) {
	for step := 0; ; step++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			r.create(named("web"))
			r.faults.arm(step, -1)
			err := r.unpack("web", "/")
			calls := r.faults.disarm()
			if len(calls) <= step {
				r.must(err)
				return
			}
			more = true
			if calls[step] != "Rootfs.Unmount" && !errors.Is(err, errInjected) {
				t.Errorf("%s failed, and the copy says %v", calls[step], err)
			}
			r.must(r.Containers().Start(t.Context(), "web"))
			r.must(r.Containers().Remove(t.Context(), "web", true))
			r.check()
		})
		if !more {
			return
		}
	}
}

// What a killed daemon had mounted for a copy is not mounted after the next has begun.
func TestKilledCopy(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		r.must(r.unpack("web", "/"))
		_, tree, err := r.CopyService().Pack(t.Context(), "web", "/new")
		r.must(err)
		r.crash()
		_ = tree.Close()
		r.boot(false)
		if slices.Contains(r.rootfs.Mounted(), id) {
			t.Error("it is still mounted")
		}
		r.check()
	})
}

func TestCopyWhereTheRootfsIsGone(t *testing.T) {
	r := newRig(t, true)
	r.run(named("web"))
	for _, call := range []string{"Pack", "Unpack", "Export"} {
		r.rootfs.Fail(call, syscall.ENOTCONN)
	}
	r.rootfs.Fail("Alive", moss.Errorf(moss.Unavailable, "it is gone"))
	_, _, from := r.CopyService().Pack(t.Context(), "web", "/")
	_, export := r.FileService().Export(t.Context(), "web")
	for want, err := range map[string]error{
		`cannot copy from "web": it is gone`: from,
		`cannot copy into "web": it is gone`: r.unpack("web", "/"),
		`cannot export "web": it is gone`:    export,
	} {
		if r.wantClass(err, moss.Unavailable); err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}
