package image

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containers/storage"
)

// reaper removes the layers of deleted images behind the answer. What is left
// to do is kept in files, one for each image, until it is done, so that a
// process that is killed does not leave layers that nobody asks for. A layer
// that an image has come to need meanwhile stays: the store refuses, or it is held.
type reaper struct {
	store storage.Store
	holds *holds
	dir   string // of the files
	log   *slog.Logger
	done  func() // called after each image

	mu    sync.Mutex
	queue []batch
	idle  chan struct{} // closed when there is nothing to do
}

// batch is one file's layers, children before their parents, or a directory
// tree without any.
type batch struct {
	file   string
	layers []string
}

func newReaper(store storage.Store, h *holds, dir string, log *slog.Logger) *reaper {
	idle := make(chan struct{})
	close(idle)
	return &reaper{store: store, holds: h, dir: dir, log: log, idle: idle}
}

// resume goes on with what an earlier process did not finish.
func (r *reaper) resume() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(r.dir, f.Name())
		if f.IsDir() { // see bury
			r.enqueue(batch{file: name})
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		// A last line that is cut short names no layer; its image was not deleted yet.
		r.enqueue(batch{name, strings.Fields(string(b))})
	}
	return nil
}

// doom notes layers that are to go, children before their parents. Removing
// begins when start is called.
func (r *reaper) doom(name string, layers []string) (start func(), err error) {
	if len(layers) == 0 {
		return func() {}, nil
	}
	b := batch{filepath.Join(r.dir, name), layers}
	if err := os.WriteFile(b.file, []byte(strings.Join(layers, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	return func() { r.enqueue(b) }, nil
}

// bury removes a directory tree on the same disk, which is out of the way at once.
func (r *reaper) bury(tree string) error {
	to, err := os.MkdirTemp(r.dir, "tree-")
	if err != nil {
		return err
	}
	if err := os.Rename(tree, to); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	r.enqueue(batch{file: to})
	return nil
}

// start dooms and begins.
func (r *reaper) start(name string, layers []string) error {
	begin, err := r.doom(name, layers)
	if err == nil {
		begin()
	}
	return err
}

func (r *reaper) enqueue(b batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, b)
	if len(r.queue) == 1 {
		r.idle = make(chan struct{})
		go r.run(r.idle)
	}
}

func (r *reaper) run(idle chan struct{}) {
	defer close(idle)
	for {
		r.mu.Lock()
		b := r.queue[0]
		r.mu.Unlock()
		r.reap(b)
		r.mu.Lock()
		r.queue = r.queue[1:]
		done := len(r.queue) == 0
		r.mu.Unlock()
		if done {
			return
		}
	}
}

func (r *reaper) reap(b batch) {
	for _, l := range b.layers {
		if _, err := r.remove(l); err != nil {
			r.log.Warn("a layer of a deleted image stays", "layer", l, "error", err)
		}
	}
	if err := os.RemoveAll(b.file); err != nil {
		r.log.Warn("the note of a deleted image, or a half unpacked layer, stays", "path", b.file, "error", err)
	}
	if r.done != nil {
		r.done()
	}
}

// remove removes one layer with its files, unless somebody needs it.
func (r *reaper) remove(layer string) (gone bool, err error) {
	done, ok := r.holds.take(layer)
	if !ok {
		return false, nil
	}
	defer done()
	err = r.store.DeleteLayer(layer)
	for _, needed := range []error{storage.ErrLayerHasChildren, storage.ErrLayerUsedByImage, storage.ErrLayerUsedByContainer, storage.ErrNotALayer, storage.ErrLayerUnknown} {
		if errors.Is(err, needed) {
			return false, nil
		}
	}
	return err == nil, err
}

// pending are the layers whose turn has not come.
func (r *reaper) pending() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]bool{}
	for _, b := range r.queue {
		for _, l := range b.layers {
			all[l] = true
		}
	}
	return all
}

// wait returns when everything that was to be removed so far is.
func (r *reaper) wait(ctx context.Context) error {
	r.mu.Lock()
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
