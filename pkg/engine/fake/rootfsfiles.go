package fake

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.RootfsFiles = (*Rootfs)(nil)

// Diff implements engine.RootfsFiles.
func (r *Rootfs) Diff(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	return r.pack(ctx, "Diff", id, true)
}

// Export implements engine.RootfsFiles.
func (r *Rootfs) Export(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	return r.pack(ctx, "Export", id, false)
}

// Written implements engine.RootfsFiles.
func (r *Rootfs) Written(ctx context.Context, id moss.ContainerID) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail["Written"]); err != nil {
		return 0, err
	}
	files, err := r.filesLocked(id)
	if err != nil {
		return 0, err
	}
	var n int64
	for name, text := range files {
		if old, ok := r.bases[id][name]; !ok || old != text {
			n += int64(len(text))
		}
	}
	return n, nil
}

// filesLocked reads a container's files.
func (r *Rootfs) filesLocked(id moss.ContainerID) (map[string]string, error) {
	dir, ok := r.layers[id]
	if !ok {
		return nil, moss.Errorf(moss.NotFound, "container %s has no root file system", id.Short())
	}
	if r.mounted[id] {
		dir = filepath.Join(r.dir, string(id))
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range list {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files[e.Name()] = string(text)
	}
	return files, nil
}

func (r *Rootfs) pack(ctx context.Context, method string, id moss.ContainerID, diff bool) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail[method]); err != nil {
		return nil, err
	}
	files, err := r.filesLocked(id)
	if err != nil {
		return nil, err
	}
	if diff {
		for name, old := range r.bases[id] {
			if text, ok := files[name]; !ok {
				files[".wh."+name] = ""
			} else if text == old {
				delete(files, name)
			}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return nil, err
		}
	}
	return &untilDone{ctx: ctx, r: &buf}, w.Close()
}

// untilDone fails when its context ends.
type untilDone struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	r   io.Reader
}

func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

func (u *untilDone) Close() error { return nil }
