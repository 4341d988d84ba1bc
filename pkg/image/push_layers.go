package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containers/image/v5/manifest"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// pusher is what a push needs of registries.
type pusher interface {
	Create(ctx context.Context, ref string, cred moss.Credentials) (imageTarget, error)
	Retryable(err error) (after time.Duration, ok bool)
}

// imageTarget writes one image; see registry.Target.
type imageTarget interface {
	Has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error)
	Mount(ctx context.Context, d digest.Digest, repo string) (size int64, ok bool, err error)
	Put(ctx context.Context, r io.Reader, config bool) (digest.Digest, int64, error)
	PutManifest(ctx context.Context, b []byte) error
	Close() error
}

// realPusher is the registries' client as a pusher.
type realPusher struct{ *registry.Client }

func (r realPusher) Create(ctx context.Context, ref string, cred moss.Credentials) (imageTarget, error) {
	to, err := r.Client.Create(ctx, ref, cred)
	if err != nil {
		return nil, err // not to: a nil in an interface is none
	}
	return to, nil
}

func (r realPusher) Retryable(err error) (time.Duration, bool) { return registry.Retryable(err) }

// pushedLayer is one layer on its way out.
type pushedLayer struct {
	id    string // in the store
	diff  digest.Digest
	size  int64              // of the tar
	desc  imgspec.Descriptor // in the image's first manifest
	known []knownBlob
}

// knownBlob is a form of a layer that a registry has, or may have.
type knownBlob struct {
	desc  imgspec.Descriptor
	repos []string // of the registry that is pushed to, where it may be
}

func (l *pushedLayer) tell(to func(moss.Progress), status string) {
	to(moss.Progress{ID: shortDigest(l.diff), Status: status})
}

// knownBlobs finds in which forms the image's layers may be at ref's registry:
// those of the manifests here, in the repositories that they were pulled from or pushed to.
func (s *Store) knownBlobs(im moss.Image, ref reference.Named) map[digest.Digest][]knownBlob {
	known := map[digest.Digest][]knownBlob{}
	s.mu.RLock()
	others := []moss.Image{im} // what it came with itself goes first
	for _, o := range s.images {
		if o.ID != im.ID && slices.ContainsFunc(o.DiffIDs, func(d string) bool { return slices.Contains(im.DiffIDs, d) }) {
			others = append(others, o)
		}
	}
	s.mu.RUnlock()
	for _, o := range others {
		repos := reposOf(o, reference.Domain(ref))
		raw, err := s.store.Image(hexOf(o.ID))
		if err != nil || len(o.Digests) == 0 {
			continue // just deleted, or never at a registry
		}
		list, err := s.manifests(raw)
		if err != nil {
			continue // it is not what is pushed
		}
		for _, k := range list {
			at := digest.FromBytes(k.raw).String()
			sent := slices.ContainsFunc(o.Digests, func(n string) bool { return strings.HasSuffix(n, "@"+at) })
			for i, d := range k.man.Layers {
				if i >= len(o.DiffIDs) || (!sent && d.Digest.String() == o.DiffIDs[i]) {
					continue // our own description, as plain tars
				}
				if slices.Contains(im.DiffIDs, o.DiffIDs[i]) {
					diff := digest.Digest(o.DiffIDs[i])
					known[diff] = addKnown(known[diff], knownBlob{d, repos})
				}
			}
		}
	}
	return known
}

func addKnown(list []knownBlob, b knownBlob) []knownBlob {
	i := slices.IndexFunc(list, func(k knownBlob) bool { return k.desc.Digest == b.desc.Digest })
	if i < 0 {
		return append(list, b)
	}
	for _, r := range b.repos {
		if !slices.Contains(list[i].repos, r) {
			list[i].repos = append(slices.Clip(list[i].repos), r)
		}
	}
	return list
}

// reposOf lists the repositories of a registry that had an image.
func reposOf(im moss.Image, domain string) (repos []string) {
	for _, name := range im.Digests {
		ref, err := reference.ParseNormalizedNamed(name)
		if err == nil && reference.Domain(ref) == domain && !slices.Contains(repos, ref.Name()) {
			repos = append(repos, ref.Name())
		}
	}
	return repos
}

// layer makes the registry have a layer, together with all who want the same
// at the moment, and describes it.
func (p *pushing) layer(ctx context.Context, l *pushedLayer) (imgspec.Descriptor, error) {
	if isForeign(l.desc) {
		l.tell(p.report, "Skipped foreign layer")
		return l.desc, nil
	}
	return transfer.Do(ctx, p.s.transfers, p.key()+" "+l.id, p.report, func(ctx context.Context, report func(moss.Progress)) (desc imgspec.Descriptor, err error) {
		left := func(seconds int) { l.tell(report, retrying(seconds)) }
		err = p.again(ctx, left, func() (err error) {
			desc, err = p.send(ctx, l, report)
			return err
		})
		return desc, err
	})
}

func retrying(seconds int) string {
	if seconds == 1 {
		return "Retrying in 1 second"
	}
	return fmt.Sprintf("Retrying in %d seconds", seconds)
}

func (p *pushing) again(ctx context.Context, left func(int), fn func() error) error {
	return p.s.transfers.Retry(ctx, p.s.targets.Retryable, left, func(int) error { return fn() })
}

func (p *pushing) send(ctx context.Context, l *pushedLayer, report func(moss.Progress)) (imgspec.Descriptor, error) {
	release, err := p.s.transfers.Upload(ctx, func() { l.tell(report, "Waiting") })
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	defer release()
	desc, found, err := p.reuse(ctx, l, report)
	if found || err != nil {
		return desc, err
	}
	d, size, err := p.upload(ctx, l, report)
	if err != nil {
		return desc, err
	}
	l.tell(report, "Pushed")
	kind := imgspec.MediaTypeImageLayerGzip
	if p.own[0].kind == manifest.DockerV2Schema2MediaType {
		kind = manifest.DockerV2Schema2LayerMediaType
	}
	return imgspec.Descriptor{MediaType: kind, Digest: d, Size: size}, nil
}

// reuse looks for the layer in the repository, then in others of the registry.
func (p *pushing) reuse(ctx context.Context, l *pushedLayer, report func(moss.Progress)) (desc imgspec.Descriptor, found bool, err error) {
	var usable []knownBlob
	for _, k := range l.known {
		if k.desc.MediaType = p.kindOf(k.desc.MediaType); k.desc.MediaType != "" {
			usable = append(usable, k)
		}
	}
	for _, k := range usable {
		size, ok, err := p.to.Has(ctx, k.desc.Digest)
		if err != nil {
			return desc, false, err
		}
		if ok {
			l.tell(report, "Layer already exists")
			k.desc.Size = size
			return k.desc, true, nil
		}
	}
	for _, k := range usable {
		for _, repo := range k.repos {
			if repo == p.ref.Name() {
				continue
			}
			size, ok, err := p.to.Mount(ctx, k.desc.Digest, repo)
			if err != nil {
				p.s.log.Debug("a blob cannot be mounted", "from", repo, "error", err) // it can be sent
				continue
			}
			if ok {
				from, _ := reference.ParseNormalizedNamed(repo)
				l.tell(report, "Mounted from "+reference.Path(from))
				k.desc.Size = size
				return k.desc, true, nil
			}
		}
	}
	return desc, false, nil
}

// kindOf is what the image's kind of manifest calls a layer of that type; ""
// where it has no word for it.
func (p *pushing) kindOf(kind string) string {
	docker := p.own[0].kind == manifest.DockerV2Schema2MediaType
	switch kind {
	case imgspec.MediaTypeImageLayerGzip, manifest.DockerV2Schema2LayerMediaType:
		if docker {
			return manifest.DockerV2Schema2LayerMediaType
		}
		return imgspec.MediaTypeImageLayerGzip
	case imgspec.MediaTypeImageLayer, manifest.DockerV2SchemaLayerMediaTypeUncompressed:
		if docker {
			return manifest.DockerV2SchemaLayerMediaTypeUncompressed
		}
		return imgspec.MediaTypeImageLayer
	case imgspec.MediaTypeImageLayerZstd:
		if !docker {
			return kind
		}
	}
	return ""
}

// isForeign says whether a layer is to be had elsewhere and may not be pushed.
func isForeign(d imgspec.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable."))
}
