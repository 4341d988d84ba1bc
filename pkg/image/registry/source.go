package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// Source reads one image, or an index of several, of a registry or its
// mirrors. Its methods may be called from several goroutines at once.
type Source struct {
	c    *Client
	ref  reference.Named
	cred moss.Credentials
	src  types.ImageSource

	mirrored bool // src may be a mirror's
	mu       sync.Mutex
	direct   types.ImageSource // opened when a mirror did not have all that it promised
}

// Open prepares reading ref, a normalised name with a tag or digest. Mirrors
// are tried first. The manifest has been read when it returns. Errors: docker's
// words; NotFound, Unauthorized, Forbidden, Unavailable.
func (c *Client) Open(ctx context.Context, ref string, cred moss.Credentials) (*Source, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	if by, ok := named.(reference.Digested); ok { // a tag beside it says nothing more
		if named, err = reference.WithDigest(reference.TrimNamed(named), by.Digest()); err != nil {
			return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
		}
	}
	named = reference.TagNameOnly(named)
	sys, err := c.System(ctx, named, cred)
	if err != nil {
		return nil, err
	}
	mirrored, err := c.look(sys, named)
	if err != nil {
		return nil, err
	}
	at, err := docker.NewReference(named)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	src, err := at.NewImageSource(ctx, sys)
	if err != nil {
		return nil, failure(ctx, err, named)
	}
	return &Source{c: c, ref: named, cred: cred, src: src, mirrored: mirrored}, nil
}

// look says whether the registry has mirrors, and refuses it where the user's
// registries.conf does: the library would name our generated file.
func (c *Client) look(sys *types.SystemContext, ref reference.Named) (mirrored bool, err error) {
	r, err := sysregistriesv2.FindRegistry(sys, ref.Name())
	if err != nil {
		return false, moss.Errorf(moss.Invalid, "cannot use the registries in %s: %w", strings.Join(c.now.Load().base.from, ", "), err)
	}
	if r != nil && r.Blocked {
		return false, moss.Errorf(moss.Forbidden, "registry %s is blocked in %s", r.Prefix, strings.Join(c.now.Load().base.from, ", "))
	}
	return r != nil && len(r.Mirrors) > 0, nil
}

// Manifest returns a manifest as it is at the registry and its media type:
// for nil what the reference names, else that part of the index. The bytes of a part, and of
// what was asked for by digest, are checked.
func (s *Source) Manifest(ctx context.Context, instance *digest.Digest) ([]byte, string, error) {
	b, kind, err := s.src.GetManifest(ctx, instance)
	if err != nil {
		return nil, "", failure(ctx, err, s.ref)
	}
	want := digest.Digest("")
	if by, ok := s.ref.(reference.Digested); ok {
		want = by.Digest()
	}
	if instance != nil {
		want = *instance
	}
	if want != "" && want.Algorithm().FromBytes(b) != want {
		return nil, "", moss.Errorf(moss.Invalid, "manifest verification failed for digest %s", want)
	}
	return b, kind, nil
}

// Blob streams a blob. A connection that breaks off is taken up again where
// it broke. The bytes are not checked. urls are other places that have it, asked first.
// size is what the blob must have, -1 when not known; the size returned is what the registry says, or -1.
// ctx must live as long as the reader.
func (s *Source) Blob(ctx context.Context, d digest.Digest, size int64, urls []string) (io.ReadCloser, int64, error) {
	if err := d.Validate(); err != nil {
		return nil, 0, moss.Errorf(moss.Invalid, "invalid digest %q: %w", d, err)
	}
	open := func() (io.ReadCloser, int64, error) {
		info := types.BlobInfo{Digest: d, Size: size, URLs: urls}
		r, has, err := s.src.GetBlob(ctx, info, none.NoCache)
		if err == nil || !s.mirrored || ctx.Err() != nil {
			return r, has, err
		}
		s.c.o.Log.Info("a mirror does not have all of an image", "image", reference.FamiliarString(s.ref), "error", err)
		src, err := s.upstream(ctx)
		if err != nil {
			return nil, 0, err
		}
		return src.GetBlob(ctx, info, none.NoCache)
	}
	r, has, err := open()
	if err != nil {
		return nil, 0, failure(ctx, err, s.ref)
	}
	if size < 0 {
		size = has
	}
	return &resumed{ctx: ctx, ref: s.ref, open: open, r: r, size: size, left: reopens}, has, nil
}

// upstream opens the image at the registry itself.
func (s *Source) upstream(ctx context.Context) (types.ImageSource, error) {
	s.mu.Lock()
	src := s.direct
	s.mu.Unlock()
	if src != nil {
		return src, nil
	}
	sys, err := s.c.system(ctx, reference.Domain(s.ref), s.cred, true)
	if err != nil {
		return nil, err
	}
	at, err := docker.NewReference(s.ref)
	if err != nil {
		return nil, err
	}
	if src, err = at.NewImageSource(ctx, sys); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct != nil { // another layer was faster
		return s.direct, src.Close()
	}
	s.direct = src
	return src, nil
}

// Allowed says whether the user's policy.json, else the machine's, lets the
// image in; without such a file everything may come. Errors: Forbidden.
func (s *Source) Allowed(ctx context.Context, instance *digest.Digest) (err error) {
	path := s.c.first("containers/policy.json")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	policy, err := signature.NewPolicyFromFile(path)
	if err != nil {
		return moss.Errorf(moss.Invalid, "cannot use the signature policy in %s: %w", path, err)
	}
	pc, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pc.Destroy()) }()
	ok, err := pc.IsRunningImageAllowed(ctx, image.UnparsedInstance(s.src, instance))
	if ok && err == nil {
		return nil
	}
	if _, retry := Retryable(err); retry || ctx.Err() != nil {
		return failure(ctx, err, s.ref)
	}
	return moss.Errorf(moss.Forbidden, "the signature policy in %s does not let %s in: %w", path, reference.FamiliarString(s.ref), err)
}

// Close ends the connections.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct != nil {
		return errors.Join(s.src.Close(), s.direct.Close())
	}
	return s.src.Close()
}

// Tags lists the tags of a repository, in no order.
func (c *Client) Tags(ctx context.Context, repo string, cred moss.Credentials) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	named = reference.TrimNamed(named)
	sys, err := c.System(ctx, named, cred)
	if err != nil {
		return nil, err
	}
	if _, err := c.look(sys, named); err != nil {
		return nil, err
	}
	at, err := docker.NewReference(reference.TagNameOnly(named))
	if err != nil {
		return nil, err
	}
	tags, err := docker.GetRepositoryTags(ctx, sys, at)
	return tags, failure(ctx, err, named)
}
