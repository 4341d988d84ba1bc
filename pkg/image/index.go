package image

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/containers/storage"

	"github.com/moss-containers/moss/pkg/moss"
)

// gate is the index's lock. Who passes it first reads the index: of hundreds of
// images that takes longer than all else of a start, which needs none of them.
type gate struct {
	sync.RWMutex
	once sync.Once
	read func() // nil where there is nothing to read
}

func (g *gate) Lock()  { g.open(); g.RWMutex.Lock() }
func (g *gate) RLock() { g.open(); g.RWMutex.RLock() }

func (g *gate) open() {
	g.once.Do(func() {
		if g.read != nil {
			g.read()
			g.read = nil // with the lists that it holds
		}
	})
}

// Read reads what images there are, unless somebody has needed to know already.
func (s *Store) Read() { s.mu.open() }

// readAll fills the index with what the store has; nobody passes the gate meanwhile.
func (s *Store) readAll(all inventory) {
	layer := func(id string) (storage.Layer, error) {
		if l := all.layers[id]; l != nil {
			return *l, nil
		}
		return storage.Layer{}, storage.ErrLayerUnknown
	}
	list := make([]moss.Image, len(all.Images))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(list))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(list); i += workers {
				raw := &all.Images[i]
				im, err := read(raw, s.readFile, layer)
				if err != nil {
					// It stays in the list, so that it can be removed.
					s.log.Warn("an image is damaged", "image", raw.ID, "error", err)
				}
				list[i] = im
			}
		})
	}
	wg.Wait()
	for _, im := range list {
		s.putLocked(im)
	}
}

// readFile reads what is kept with an image where the store has it: asked for a
// thousand times, the store takes longer to lock its lists than to read.
func (s *Store) readFile(image, key string) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.store.GraphRoot(), s.store.GraphDriverName()+"-images", image, fileName(key)))
}

// fileName is the store's rule (makeBigDataBaseName in its store.go).
func fileName(key string) string {
	if strings.Trim(key, ".0123456789abcdefghijklmnopqrstuvwxyz") == "" {
		return key
	}
	return "=" + base64.StdEncoding.EncodeToString([]byte(key))
}
