package registry

import (
	"context"
	"io"
	"sync"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// Target writes one image to a registry. Its methods may be called from
// several goroutines at once. Errors have the registry's words: Unauthorized,
// Forbidden, Unavailable.
type Target struct {
	c    *Client
	cred moss.Credentials
	ref  reference.Named
	dest types.ImageDestination

	mu  sync.Mutex
	way *way // nil until the first mount
}

// Create prepares writing ref, a normalised name with a tag. Mirrors have no
// part in it.
func (c *Client) Create(ctx context.Context, ref string, cred moss.Credentials) (*Target, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	sys, err := c.System(ctx, named, cred)
	if err != nil {
		return nil, err
	}
	if _, err := c.look(sys, named); err != nil {
		return nil, err
	}
	at, err := docker.NewReference(named)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	dest, err := at.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, broken(ctx, err, reference.Domain(named))
	}
	return &Target{c: c, cred: cred, ref: named, dest: dest}, nil
}

// Has says whether the repository has a blob, and its size.
func (t *Target) Has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error) {
	ok, info, err := t.dest.TryReusingBlob(ctx, types.BlobInfo{Digest: d, Size: -1}, none.NoCache, false)
	return info.Size, ok, broken(ctx, err, reference.Domain(t.ref))
}

// Put uploads a blob and tells what it was.
func (t *Target) Put(ctx context.Context, r io.Reader, config bool) (digest.Digest, int64, error) {
	info, err := t.dest.PutBlob(ctx, r, types.BlobInfo{Size: -1}, none.NoCache, config)
	return info.Digest, info.Size, broken(ctx, err, reference.Domain(t.ref))
}

// PutManifest names the image: from now on it can be pulled.
func (t *Target) PutManifest(ctx context.Context, b []byte) error {
	return broken(ctx, t.dest.PutManifest(ctx, b, nil), reference.Domain(t.ref))
}

// Close ends the connections.
func (t *Target) Close() error { return t.dest.Close() }
