// Package image keeps images: it names, finds, loads, imports and removes
// them. It is the door to github.com/containers/image/v5, over a store that
// pkg/storage has opened.
//
// What images there are is kept in memory, read once when the package starts
// and changed with every change: no list walks the store. An image's id is the
// digest of its configuration, as docker's is.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/types"
	"github.com/containers/storage"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// Options say what the store needs beside the store.
type Options struct {
	TempDir string // for what is being unpacked, and notes of what is being removed; emptied at the start; on a disk
	Log     *slog.Logger

	// Disk is told of changes that nobody syncs; nil when it need not be.
	Disk Disk
	// Holder knows of containers that the store does not; nil when there are none.
	Holder Holder

	Registry *registry.Client // nil: nothing can be pulled or pushed
	Limits   transfer.Limits  // of pulls and pushes
}

// Disk keeps in mind that there is something a loss of power could damage.
type Disk interface {
	// Changing comes before a layer is put into the store.
	Changing() error
	// Changed comes after it, and lets it be synced in the background.
	Changed()
}

// Holder says whether something outside the store stands on an image.
type Holder interface {
	Holds(image moss.ImageID) bool
}

type noDisk struct{}

func (noDisk) Changing() error { return nil }
func (noDisk) Changed()        {}

// Store keeps images. It is safe for concurrent use; the values it returns
// share memory and are not to be changed.
type Store struct {
	store storage.Store
	tmp   string
	log   *slog.Logger
	disk  Disk
	other Holder // may be nil
	sys   *types.SystemContext

	unpacker *layer.Store
	holds    *holds
	reaper   *reaper
	reserve  *reserve

	registries puller // nil without a registry
	targets    pusher // the same
	stager     stager
	transfers  *transfer.Manager

	naming sync.Mutex // one change of names at a time, in the store and in the index

	mu     gate
	images map[moss.ImageID]moss.Image
	names  map[string]moss.ImageID // with tag or with digest
}

// New removes what a process that was killed left behind, but for layers that
// the next pull will ask for again. What images there are is read when it is
// needed first; see [Store.Read].
func New(store storage.Store, o Options) (*Store, error) {
	s := &Store{store: store, tmp: o.TempDir, log: o.Log, images: map[moss.ImageID]moss.Image{}, names: map[string]moss.ImageID{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.other = o.Holder
	if s.disk = o.Disk; s.disk == nil {
		s.disk = noDisk{}
	}
	s.sys = &types.SystemContext{
		BigFilesTemporaryDir: s.tmp,
		// A cache of blobs serves registries only. Where its directory cannot be made it is kept in memory.
		BlobInfoCacheDir: filepath.Join(os.DevNull, "none"),
	}
	s.unpacker = layer.New(store, layer.Options{TempDir: s.tmp, Log: s.log})
	s.stager = realStager{s.unpacker}
	s.transfers = transfer.New(o.Limits, s.log)
	if o.Registry != nil {
		s.registries, s.targets = realPuller{o.Registry}, realPusher{o.Registry}
	}
	s.holds = newHolds()
	s.reserve = newReserve(store.GraphRoot(), s.log)
	s.reaper = newReaper(store, s.holds, filepath.Join(s.tmp, doomedDir), s.log)
	s.reaper.done = s.reserve.keep
	if err := s.recover(); err != nil {
		return nil, moss.Wrap(err, "open images", "")
	}
	if err := s.dropStaged(); err != nil {
		s.log.Warn("what was unpacked of an unfinished layer stays", "error", err)
	}
	all, err := s.all()
	if err != nil {
		return nil, moss.Wrap(err, "open images", "")
	}
	changed, err := s.dropUnfinished(all)
	if err != nil {
		s.log.Warn("an unfinished image stays", "error", err)
	}
	if changed {
		if all, err = s.all(); err != nil {
			return nil, moss.Wrap(err, "open images", "")
		}
	}
	if err := s.dropStrays(all); err != nil {
		s.log.Warn("layers of an unfinished image stay", "error", err)
	}
	s.mu.read = func() { s.readAll(all) }
	s.reserve.keep()
	return s, nil
}

// commit makes a staged layer one of the store, and tells what of it a user
// namespace could not make; to the log alone when tell is nil.
func (s *Store) commit(g stagedLayer, parent string, tell func(moss.Progress)) (id string, err error) {
	if err := s.disk.Changing(); err != nil {
		return "", err
	}
	info := g.Info()
	if id, err = g.Commit(parent); err != nil || len(info.Skipped) == 0 {
		return id, err
	}
	s.log.Warn("some of a layer is left out", "layer", info.DiffID, "what", info.Skipped)
	if tell != nil {
		tell(moss.Progress{Status: "Left out of layer " + shortDigest(info.DiffID) + ": " + someOf(info.Skipped)})
	}
	return id, nil
}

// someOf is a list in one line that a person reads to its end.
func someOf(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and more (the engine's log has them)", strings.Join(list[:most], "; "))
}

// List returns every image, the newest first, from memory.
func (s *Store) List(context.Context) ([]moss.Image, error) {
	s.mu.RLock()
	list := make([]moss.Image, 0, len(s.images))
	for _, im := range s.images {
		list = append(list, im)
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b moss.Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return list, nil
}

// taggedKey is where the time of the latest naming is kept with an image.
const taggedKey = "moss-tagged-at"

// read makes an Image of the store's record and of what is kept with it. On an
// error the image has what could be read.
func read(raw *storage.Image, data func(image, key string) ([]byte, error), layer func(string) (storage.Layer, error)) (moss.Image, error) {
	id := moss.ImageID("sha256:" + raw.ID)
	im := moss.Image{ID: id, Created: raw.Created}
	b, err := data(raw.ID, string(id))
	if err == nil {
		var full moss.Image
		if full, err = decodeConfig(b); err == nil {
			full.ID = id
			im = full
		}
	}
	im.Digest = raw.Digest.String()
	if man, err := data(raw.ID, storage.ImageDigestBigDataKey); err == nil {
		// What cannot be read is not known, and the image as good without.
		if _, im.MediaType, err = decodeManifest(man, ""); err == nil {
			im.ManifestSize = int64(len(man))
		}
	}
	for _, name := range raw.Names {
		if strings.Contains(name, "@") {
			im.Digests = append(im.Digests, name)
		} else {
			im.Names = append(im.Names, name)
		}
	}
	slices.Sort(im.Names)
	if slices.Contains(raw.BigDataNames, taggedKey) {
		if b, err := data(raw.ID, taggedKey); err == nil {
			_ = im.TaggedAt.UnmarshalText(b) // a date that cannot be read is an unknown one
		}
	}
	for l := raw.TopLayer; l != "" && err == nil; {
		var rec storage.Layer
		if rec, err = layer(l); err == nil {
			im.Size += rec.UncompressedSize
			im.LayerSizes = append(im.LayerSizes, rec.UncompressedSize)
			l = rec.Parent
		}
	}
	slices.Reverse(im.LayerSizes) // the base first
	if len(im.LayerSizes) != len(im.DiffIDs) {
		im.LayerSizes = nil
	}
	return im, err
}

// look reads one image from the store.
func (s *Store) look(id moss.ImageID) (moss.Image, error) {
	raw, err := s.store.Image(hexOf(id))
	if err != nil {
		return moss.Image{}, err
	}
	return read(raw, s.store.ImageBigData, func(id string) (storage.Layer, error) {
		l, err := s.store.Layer(id)
		if err != nil {
			return storage.Layer{}, err
		}
		return *l, nil
	})
}

// fetch reads one image from the store into the index.
func (s *Store) fetch(id moss.ImageID) (moss.Image, error) {
	im, err := s.look(id)
	if err != nil {
		return im, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(im)
	return im, nil
}

// putLocked enters an image with its names; s.mu is held, or nobody else has s yet.
func (s *Store) putLocked(im moss.Image) {
	s.images[im.ID] = im
	for _, n := range slices.Concat(im.Names, im.Digests) {
		s.names[n] = im.ID
	}
}

func (s *Store) get(id moss.ImageID) (moss.Image, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	im, ok := s.images[id]
	return im, ok
}

func hexOf(id moss.ImageID) string { return strings.TrimPrefix(string(id), "sha256:") }

func now() time.Time { return time.Now().UTC() }

// Limit sets other limits on transfers, for what begins from now on.
func (s *Store) Limit(l transfer.Limits) { s.transfers.Limit(l) }
