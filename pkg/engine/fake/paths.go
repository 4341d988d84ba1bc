package fake

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.ContainerPaths = (*Rootfs)(nil)

// find returns where a path of a container is; its files are all in one directory.
func (r *Rootfs) find(ctx context.Context, method string, v moss.View, name string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail[method]); err != nil {
		return "", err
	}
	if !r.mounted[v.Container] {
		return "", moss.Errorf(moss.Conflict, "container %s is not mounted", v.Container.Short())
	}
	return filepath.Join(v.Rootfs.Path, path.Join("/", name)), nil
}

// Stat implements engine.ContainerPaths.
func (r *Rootfs) Stat(ctx context.Context, v moss.View, name string) (moss.PathStat, error) {
	at, err := r.find(ctx, "Stat", v, name)
	if err != nil {
		return moss.PathStat{}, err
	}
	info, err := os.Lstat(at)
	if err != nil {
		return moss.PathStat{}, absent(err)
	}
	return moss.PathStat{Name: path.Base(name), Size: info.Size(), Mode: info.Mode(), ModTime: info.ModTime()}, nil
}

func absent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return moss.Errorf(moss.NotFound, "%w", err)
	}
	return err
}

// Pack implements engine.ContainerPaths for one file.
func (r *Rootfs) Pack(ctx context.Context, v moss.View, name string) (moss.PathStat, io.ReadCloser, error) {
	st, err := r.Stat(ctx, v, name)
	if err != nil {
		return st, nil, err
	}
	at, err := r.find(ctx, "Pack", v, name)
	if err != nil {
		return st, nil, err
	}
	text, err := os.ReadFile(at)
	if err != nil {
		return st, nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: st.Name, Mode: int64(st.Mode.Perm()), Size: int64(len(text))}); err != nil {
		return st, nil, err
	}
	_, err = w.Write(text)
	return st, &untilDone{ctx: ctx, r: &buf}, errors.Join(err, w.Close())
}

// Unpack implements engine.ContainerPaths for regular files.
func (r *Rootfs) Unpack(ctx context.Context, v moss.View, name string, from io.Reader, _ moss.UnpackOptions) error {
	at, err := r.find(ctx, "Unpack", v, name)
	if err != nil {
		return err
	}
	if info, err := os.Stat(at); err != nil {
		return absent(err)
	} else if !info.IsDir() {
		return moss.Errorf(moss.Invalid, "extraction point is not a directory")
	}
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err := os.WriteFile(filepath.Join(at, filepath.Base(h.Name)), text, 0o600); err != nil {
			return err
		}
	}
}

// Changes implements engine.ContainerPaths.
func (r *Rootfs) Changes(ctx context.Context, id moss.ContainerID) ([]moss.Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail["Changes"]); err != nil {
		return nil, err
	}
	files, err := r.filesLocked(id)
	if err != nil {
		return nil, err
	}
	var out []moss.Change
	for name, text := range files {
		if old, ok := r.bases[id][name]; !ok {
			out = append(out, moss.Change{Path: "/" + name, Kind: moss.Added})
		} else if old != text {
			out = append(out, moss.Change{Path: "/" + name, Kind: moss.Modified})
		}
	}
	for name := range r.bases[id] {
		if _, ok := files[name]; !ok {
			out = append(out, moss.Change{Path: "/" + name, Kind: moss.Deleted})
		}
	}
	slices.SortFunc(out, func(a, b moss.Change) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}
