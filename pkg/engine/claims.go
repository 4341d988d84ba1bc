package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// claims are the turns of images, or of volumes: those who make containers of one, or
// name it, share it; who removes it has it alone. A claim is held over the steps
// of one operation, like a container's turn. The zero value is ready.
type claims[K comparable] struct {
	mu   sync.Mutex // for a look or a change
	held map[K]*claim
}

type claim struct {
	shared  int
	alone   bool
	changed chan struct{} // closed at the next change
}

// take waits for the turn, or for the end of ctx.
func (s *claims[K]) take(ctx context.Context, id K, alone bool) (release func(), err error) {
	for {
		changed := s.try(id, alone)
		if changed == nil {
			return func() { s.release(id, alone) }, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, moss.Wrap(ctx.Err(), "wait for the turn of", fmt.Sprint(id))
		}
	}
}

// releases end claims that go together.
type releases []func()

func (r *releases) add(release func()) { *r = append(*r, release) }

// all may be called again.
func (r *releases) all() {
	for _, release := range *r {
		release()
	}
	*r = nil
}

// try takes the turn and returns nil, or what to wait for.
func (s *claims[K]) try(id K, alone bool) (changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.held[id]
	if c == nil {
		if s.held == nil {
			s.held = make(map[K]*claim)
		}
		c = &claim{changed: make(chan struct{})}
		s.held[id] = c
	}
	switch {
	case c.alone, alone && c.shared > 0:
		return c.changed
	case alone:
		c.alone = true
	default:
		c.shared++
	}
	return nil
}

func (s *claims[K]) release(id K, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.held[id]
	if alone {
		c.alone = false
	} else {
		c.shared--
	}
	close(c.changed)
	c.changed = make(chan struct{})
	if c.shared == 0 {
		delete(s.held, id)
	}
}

// claim finds an image and takes its turn: until release it has the name and
// stays, or is nobody else's.
func (e *Engine) claim(ctx context.Context, ref string, alone bool) (image moss.Image, release func(), err error) {
	for {
		if image, err = e.Images.Resolve(ctx, ref); err != nil {
			return image, nil, err
		}
		if release, err = e.claims.take(ctx, image.ID, alone); err != nil {
			return image, nil, err
		}
		now, err := e.Images.Resolve(ctx, ref)
		if err == nil && now.ID == image.ID {
			return now, release, nil
		}
		release() // removed, or renamed, while the turn was waited for
		if err != nil {
			return image, nil, err
		}
	}
}
