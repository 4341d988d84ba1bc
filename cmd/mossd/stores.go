package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/image"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/storage"
)

// stores are the containers' root file systems and the images. To open them
// takes longer than all else of a start where there are many: a store that is as
// it was left is opened when it is needed first, at the latest right behind the
// start. Whoever needs it waits for that.
type stores struct {
	ctx   context.Context // of the start: it ends the opening
	late  bool            // it was left to be opened when it is needed
	took  *steps
	files *descriptors
	make  func(ctx context.Context) (*storage.Storage, *image.Store, error)
	once  sync.Once
	ended chan struct{}

	// These are set when ended is closed.
	rootfs *storage.Storage
	images *image.Store
	err    error

	mu      sync.Mutex
	settled bool             // nothing is to be done first any more
	limits  *transfer.Limits // new ones
	first   []func(context.Context, engine.Rootfs)
}

func newStores(ctx context.Context, rootfs storage.Options, images image.Options, took *steps, files *descriptors) *stores {
	return &stores{
		ctx: ctx, late: storage.AsLeft(rootfs), took: took, files: files, ended: make(chan struct{}),
		make: func(ctx context.Context) (*storage.Storage, *image.Store, error) {
			s, err := storage.Open(ctx, rootfs)
			if err != nil {
				return nil, nil, err
			}
			images.Disk, images.Holder = s, s
			im, err := image.New(s.Store(), images)
			if err != nil {
				return nil, nil, errors.Join(err, s.Close())
			}
			return s, im, nil
		},
	}
}

// await opens them, unless they are open.
func (s *stores) await(ctx context.Context) error {
	s.once.Do(func() { go s.open() })
	select {
	case <-s.ended:
		return s.err
	case <-ctx.Done():
		return moss.Wrap(ctx.Err(), "wait for the store", "")
	}
}

// begin is await for what goes on to open files.
func (s *stores) begin(ctx context.Context) error {
	if err := s.await(ctx); err != nil {
		return err
	}
	return s.files.forStore()
}

func (s *stores) open() {
	begun := time.Now()
	defer close(s.ended)
	if s.rootfs, s.images, s.err = s.make(s.ctx); s.err != nil {
		return
	}
	for next := s.nextFirst(); next != nil; next = s.nextFirst() {
		next(s.ctx, s.rootfs)
	}
	if s.late {
		s.took.behind("store", time.Since(begun))
	}
}

// nextFirst is what else has to be done before anything else; nil once all is.
func (s *stores) nextFirst() (fn func(context.Context, engine.Rootfs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.first) > 0 {
		fn, s.first = s.first[0], s.first[1:]
		return fn
	}
	s.settled = true
	if s.limits != nil {
		s.images.Limit(*s.limits)
	}
	return nil
}

// read opens them, and reads what images there are.
func (s *stores) read(ctx context.Context) error {
	if err := s.await(ctx); err != nil {
		return err
	}
	s.images.Read()
	return nil
}

// opened says whether they are open.
func (s *stores) opened() bool {
	select {
	case <-s.ended:
		return s.err == nil
	default:
		return false
	}
}

func (s *stores) close() error {
	s.once.Do(func() {
		s.err = moss.Errorf(moss.Unavailable, "the engine is going")
		close(s.ended)
	})
	<-s.ended
	if s.rootfs == nil {
		return nil
	}
	if err := s.rootfs.Close(); err != nil {
		return err
	}
	s.rootfs.Left()
	return nil
}

func (s *stores) busy() bool { return s.opened() && s.rootfs.Busy() }

// Limit changes how many transfers go on at a time.
func (s *stores) Limit(l transfer.Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limits = &l; s.settled {
		s.images.Limit(l)
	}
}

func (s *stores) info() moss.StorageInfo {
	if err := s.await(s.ctx); err != nil {
		return moss.StorageInfo{Status: [][2]string{{"Error", err.Error()}}}
	}
	if err := s.files.forStore(); err != nil {
		return moss.StorageInfo{Driver: s.rootfs.Driver(), Status: [][2]string{{"Error", err.Error()}}}
	}
	return s.rootfs.Info()
}

// late waits for the stores and asks them.
func late[T any](ctx context.Context, s *stores, ask func() (T, error)) (T, error) {
	if err := s.begin(ctx); err != nil {
		var none T
		return none, err
	}
	return ask()
}

// lateRootfs is what the engine has of pkg/storage.
type lateRootfs struct{ s *stores }

func (l lateRootfs) WhenOpen(fn func(context.Context, engine.Rootfs)) {
	if !l.s.putFirst(fn) {
		fn(l.s.ctx, l.s.rootfs)
	}
}

// putFirst is false where it is too late.
func (s *stores) putFirst(fn func(context.Context, engine.Rootfs)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		s.first = append(s.first, fn)
	}
	return !s.settled
}

func (l lateRootfs) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.Create(ctx, id, image)
}

func (l lateRootfs) CreateVolatile(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.CreateVolatile(ctx, id, image)
}

func (l lateRootfs) CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, volatile bool) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.CreateMapped(ctx, id, image, maps, volatile)
}

func (l lateRootfs) Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error) {
	return late(ctx, l.s, func() (moss.Mount, error) { return l.s.rootfs.Mount(ctx, id) })
}

func (l lateRootfs) MountLabelled(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error) {
	return late(ctx, l.s, func() (moss.Mount, error) { return l.s.rootfs.MountLabelled(ctx, id, label) })
}

func (l lateRootfs) Unmount(ctx context.Context, id moss.ContainerID) error {
	if l.s.late && !l.s.opened() {
		return nil // nothing is mounted: storage.AsLeft has looked
	}
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.Unmount(ctx, id)
}

func (l lateRootfs) Remove(ctx context.Context, id moss.ContainerID) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.Remove(ctx, id)
}

func (l lateRootfs) List(ctx context.Context) ([]moss.ContainerID, error) {
	return late(ctx, l.s, func() ([]moss.ContainerID, error) { return l.s.rootfs.List(ctx) })
}

func (l lateRootfs) Alive(pid int) error {
	if err := l.s.begin(l.s.ctx); err != nil {
		return err
	}
	return l.s.rootfs.Alive(pid)
}

func (l lateRootfs) Diff(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	return late(ctx, l.s, func() (io.ReadCloser, error) { return l.s.rootfs.Diff(ctx, id) })
}

func (l lateRootfs) Export(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	return late(ctx, l.s, func() (io.ReadCloser, error) { return l.s.rootfs.Export(ctx, id) })
}

func (l lateRootfs) Written(ctx context.Context, id moss.ContainerID) (int64, error) {
	return late(ctx, l.s, func() (int64, error) { return l.s.rootfs.Written(ctx, id) })
}

func (l lateRootfs) Stat(ctx context.Context, v moss.View, path string) (moss.PathStat, error) {
	return late(ctx, l.s, func() (moss.PathStat, error) { return l.s.rootfs.Stat(ctx, v, path) })
}

func (l lateRootfs) Pack(ctx context.Context, v moss.View, path string) (moss.PathStat, io.ReadCloser, error) {
	if err := l.s.begin(ctx); err != nil {
		return moss.PathStat{}, nil, err
	}
	return l.s.rootfs.Pack(ctx, v, path)
}

func (l lateRootfs) Unpack(ctx context.Context, v moss.View, path string, r io.Reader, o moss.UnpackOptions) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.rootfs.Unpack(ctx, v, path, r, o)
}

func (l lateRootfs) Changes(ctx context.Context, id moss.ContainerID) ([]moss.Change, error) {
	return late(ctx, l.s, func() ([]moss.Change, error) { return l.s.rootfs.Changes(ctx, id) })
}

// lateImages is what the engine has of pkg/image.
type lateImages struct{ s *stores }

func (l lateImages) Resolve(ctx context.Context, ref string) (moss.Image, error) {
	if err := l.s.await(ctx); err != nil {
		return moss.Image{}, err
	}
	return l.s.images.Resolve(ctx, ref) // from memory
}

func (l lateImages) List(ctx context.Context) ([]moss.Image, error) {
	if err := l.s.await(ctx); err != nil {
		return nil, err
	}
	return l.s.images.List(ctx) // from memory: the watchdog asks for it
}

func (l lateImages) Tag(ctx context.Context, id moss.ImageID, name string) (string, error) {
	return late(ctx, l.s, func() (string, error) { return l.s.images.Tag(ctx, id, name) })
}

func (l lateImages) Untag(ctx context.Context, name string) error {
	if err := l.s.begin(ctx); err != nil {
		return err
	}
	return l.s.images.Untag(ctx, name)
}

func (l lateImages) Delete(ctx context.Context, id moss.ImageID) ([]moss.ImageRemoval, error) {
	return late(ctx, l.s, func() ([]moss.ImageRemoval, error) { return l.s.images.Delete(ctx, id) })
}

func (l lateImages) Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	return late(ctx, l.s, func() ([]moss.LoadedImage, error) { return l.s.images.Load(ctx, r, o, progress) })
}

func (l lateImages) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	return late(ctx, l.s, func() (moss.LoadedImage, error) { return l.s.images.Import(ctx, r, o) })
}

func (l lateImages) EnsureBuiltin(ctx context.Context, ref string) (bool, error) {
	return late(ctx, l.s, func() (bool, error) { return l.s.images.EnsureBuiltin(ctx, ref) })
}

func (l lateImages) Save(ctx context.Context, r moss.SaveRequest, w io.Writer) ([]moss.ImageID, error) {
	return late(ctx, l.s, func() ([]moss.ImageID, error) { return l.s.images.Save(ctx, r, w) })
}

func (l lateImages) Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error) {
	return late(ctx, l.s, func() ([]moss.PulledImage, error) { return l.s.images.Pull(ctx, r, progress) })
}

func (l lateImages) Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error) {
	return late(ctx, l.s, func() ([]moss.PushedImage, error) { return l.s.images.Push(ctx, r, progress) })
}

func (l lateImages) Make(ctx context.Context, n moss.NewImage, diff io.Reader) (moss.ImageID, error) {
	return late(ctx, l.s, func() (moss.ImageID, error) { return l.s.images.Make(ctx, n, diff) })
}

func (l lateImages) Attestations(ctx context.Context, id moss.ImageID, types []string) ([]moss.Attestation, error) {
	return late(ctx, l.s, func() ([]moss.Attestation, error) { return l.s.images.Attestations(ctx, id, types) })
}

func (l lateImages) Usage(ctx context.Context) (unused int64, copies map[moss.ImageID]int64, err error) {
	if err := l.s.begin(ctx); err != nil {
		return 0, nil, err
	}
	return l.s.images.Usage(ctx)
}

func (l lateImages) Collect(ctx context.Context) (int64, error) {
	return late(ctx, l.s, func() (int64, error) { return l.s.images.Collect(ctx) })
}
