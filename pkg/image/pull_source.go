package image

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/moss"
)

// puller is what a pull needs of registries.
type puller interface {
	Open(ctx context.Context, ref string, cred moss.Credentials) (imageSource, error)
	Tags(ctx context.Context, repo string, cred moss.Credentials) ([]string, error)
	// Retryable says whether a failure may be gone the next time, and how long to wait at least.
	Retryable(err error) (after time.Duration, ok bool)
}

// imageSource reads one image, or an index of several; see registry.Source.
type imageSource interface {
	Manifest(ctx context.Context, instance *digest.Digest) (blob []byte, mediaType string, err error)
	Blob(ctx context.Context, d digest.Digest, size int64, urls []string) (io.ReadCloser, int64, error)
	Allowed(ctx context.Context, instance *digest.Digest) error
	Close() error
}

// stager is what a pull needs of the layers' store; see layer.Store.
type stager interface {
	Stage(ctx context.Context, r io.Reader, want layer.Expect) (stagedLayer, error)
	Has(id string) bool
}

type stagedLayer interface {
	Info() layer.Info
	Commit(parent string) (id string, err error)
	Discard() error
}

// realPuller is the registries' client as a puller.
type realPuller struct{ *registry.Client }

func (r realPuller) Open(ctx context.Context, ref string, cred moss.Credentials) (imageSource, error) {
	src, err := r.Client.Open(ctx, ref, cred)
	if err != nil {
		return nil, err // not src: a nil in an interface is none
	}
	return src, nil
}

func (r realPuller) Retryable(err error) (time.Duration, bool) { return registry.Retryable(err) }

// realStager is the layers' store as a stager.
type realStager struct{ *layer.Store }

func (r realStager) Stage(ctx context.Context, in io.Reader, want layer.Expect) (stagedLayer, error) {
	staged, err := r.Store.Stage(ctx, in, want)
	if err != nil {
		return nil, err
	}
	return staged, nil
}

func (r realStager) Has(id string) bool {
	_, ok := r.Store.Has(id)
	return ok
}

// errSourceClosed is met by a layer that begins on behalf of a pull that has just left.
var errSourceClosed = errors.New("the pull that opened the source has ended")

// lease closes a source when the last of its users is done: a layer that other
// pulls wait for goes on when the pull that began it has left.
type lease struct {
	imageSource

	mu    sync.Mutex
	users int // 0: it is closed
}

func newLease(src imageSource) *lease { return &lease{imageSource: src, users: 1} }

// hold is refused when the source is closed already.
func (l *lease) hold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		return false
	}
	l.users++
	return true
}

func (l *lease) drop() error {
	l.mu.Lock()
	l.users--
	last := l.users == 0
	l.mu.Unlock()
	if !last {
		return nil
	}
	return l.Close()
}
