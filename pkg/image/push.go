package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/storage"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/moss-containers/moss/pkg/moss"
)

// Push sends an image, or every tag of a name. Layers that the registry has,
// in that repository or in another one, are not sent again: what is known of
// them is in the manifests of the images here. An image that the registry has
// whole keeps its manifest, to the byte. progress is called one call at a
// time. What was sent before an error is returned with it.
func (s *Store) Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) (sent []moss.PushedImage, err error) {
	if s.targets == nil {
		return nil, moss.Errorf(moss.Unavailable, "no registries are configured")
	}
	refs, err := s.pushed(r)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	report := func(p moss.Progress) {
		mu.Lock()
		defer mu.Unlock()
		progress(p)
	}
	report(moss.Progress{Status: "The push refers to repository [" + refs[0].Name() + "]"})
	for _, ref := range refs {
		p := &pushing{s: s, ref: ref, cred: r.Credentials, report: report}
		one, err := p.run(ctx)
		if err != nil {
			return sent, moss.Wrap(err, "push", reference.FamiliarString(ref))
		}
		sent = append(sent, one)
	}
	return sent, nil
}

// pushed lists the names that are asked for. All are there, for the platform.
func (s *Store) pushed(r moss.PushRequest) ([]reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(r.Ref)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, moss.Errorf(moss.Invalid, "cannot push a digest reference")
	}
	if r.All && !reference.IsNameOnly(named) {
		return nil, moss.Errorf(moss.Invalid, "tag can't be used with --all-tags/-a")
	}
	want, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	var refs []reference.NamedTagged
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, id := range s.names {
		ref, err := reference.ParseNormalizedNamed(name)
		tagged, ok := ref.(reference.NamedTagged)
		if err != nil || !ok || strings.Contains(name, "@") {
			continue
		}
		if name != reference.TagNameOnly(named).String() && (!r.All || ref.Name() != named.Name()) {
			continue
		}
		if !suits(want, platformOf(s.images[id])) {
			return nil, moss.Errorf(moss.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", reference.FamiliarString(ref), platformText(want))
		}
		refs = append(refs, tagged)
	}
	if len(refs) == 0 {
		return nil, moss.Errorf(moss.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	slices.SortFunc(refs, func(a, b reference.NamedTagged) int { return strings.Compare(a.Tag(), b.Tag()) })
	return refs, nil
}

// pushing is the push of one tag.
type pushing struct {
	s      *Store
	ref    reference.NamedTagged
	cred   moss.Credentials
	report func(moss.Progress)

	im     moss.Image
	config []byte
	own    []kept // the manifests that are kept with the image, its first one first
	layers []pushedLayer
	to     imageTarget
}

// kept is a manifest that is kept with an image.
type kept struct {
	raw  []byte
	kind string
	man  anyManifest
}

func (p *pushing) run(ctx context.Context) (sent moss.PushedImage, err error) {
	p.s.mu.RLock()
	id := p.s.names[p.ref.String()]
	p.s.mu.RUnlock()
	release, err := p.open(ctx, id)
	if err != nil {
		return sent, err
	}
	defer release()
	p.to, err = p.s.targets.Create(ctx, p.ref.String(), p.cred)
	if err != nil {
		return sent, err
	}
	defer func() { err = errors.Join(err, p.to.Close()) }()
	descs := make([]imgspec.Descriptor, len(p.layers))
	g, gctx := errgroup.WithContext(ctx)
	for i := range p.layers {
		p.layers[i].tell(p.report, "Preparing")
	}
	for i := range p.layers {
		g.Go(func() (err error) {
			descs[i], err = p.layer(gctx, &p.layers[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return sent, err
	}
	return p.finish(ctx, descs)
}

// open reads what is to be sent, and keeps its layers from being removed.
func (p *pushing) open(ctx context.Context, id moss.ImageID) (release func(), err error) {
	raw, err := p.s.store.Image(hexOf(id))
	if err != nil {
		return nil, moss.Errorf(moss.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(p.ref))
	}
	chain, err := p.s.chain(raw.TopLayer)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(chain))
	for i, l := range chain {
		ids[i] = l.ID
	}
	if release, err = p.s.hold(ctx, ids...); err != nil {
		return nil, err
	}
	if err := p.gather(raw, chain); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (p *pushing) gather(raw *storage.Image, chain []storage.Layer) (err error) {
	id := moss.ImageID("sha256:" + raw.ID)
	p.im, _ = p.s.get(id)
	if p.config, err = p.s.store.ImageBigData(raw.ID, string(id)); err != nil {
		return err
	}
	if p.own, err = p.s.manifests(raw); err != nil {
		return err
	}
	if len(p.own) == 0 || len(p.own[0].man.Layers) != len(chain) || len(p.im.DiffIDs) != len(chain) {
		return moss.Errorf(moss.Invalid, "the image is damaged: its manifest does not fit its layers")
	}
	known := p.s.knownBlobs(p.im, p.ref)
	for i, l := range chain {
		diff := digest.Digest(p.im.DiffIDs[i])
		p.layers = append(p.layers, pushedLayer{id: l.ID, diff: diff, size: l.UncompressedSize, desc: p.own[0].man.Layers[i], known: known[diff]})
	}
	return nil
}

// manifests reads those that describe the image, the one it came with first.
func (s *Store) manifests(raw *storage.Image) (list []kept, err error) {
	for _, key := range append([]string{storage.ImageDigestBigDataKey}, raw.BigDataNames...) {
		if key != storage.ImageDigestBigDataKey && !strings.HasPrefix(key, storage.ImageDigestManifestBigDataNamePrefix+"-") {
			continue
		}
		b, err := s.store.ImageBigData(raw.ID, key)
		if err != nil {
			return nil, err
		}
		m, kind, err := decodeManifest(b, "")
		if err != nil || !isImageType(kind) || m.Config == nil || m.Config.Digest.Validate() != nil || m.Config.Digest.Encoded() != raw.ID {
			continue // the index that it was in
		}
		if !slices.ContainsFunc(list, func(k kept) bool { return string(k.raw) == string(b) }) {
			list = append(list, kept{b, kind, m})
		}
	}
	return list, nil
}

// finish sends configuration and manifest, and notes what the registry has now.
func (p *pushing) finish(ctx context.Context, descs []imgspec.Descriptor) (sent moss.PushedImage, err error) {
	if err := p.again(ctx, nil, func() error { return p.sendConfig(ctx) }); err != nil {
		return sent, err
	}
	raw, err := p.assemble(descs)
	if err != nil {
		return sent, err
	}
	if err := p.again(ctx, nil, func() error { return p.to.PutManifest(ctx, raw) }); err != nil {
		return sent, err
	}
	d := digest.FromBytes(raw)
	if err := p.s.wasSent(p.im.ID, p.ref.Name()+"@"+d.String(), raw, d); err != nil {
		// It is at the registry; the next push will ask more than it needs to.
		p.s.log.Warn("what was pushed is not noted", "image", p.im.ID.Short(), "error", err)
	}
	sent = moss.PushedImage{Tag: p.ref.Tag(), Digest: d.String(), Size: int64(len(raw))}
	p.report(moss.Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", sent.Tag, sent.Digest, sent.Size)})
	return sent, nil
}

// assemble takes a manifest that the image has, if the layers are those of it,
// else makes one of the same kind.
func (p *pushing) assemble(descs []imgspec.Descriptor) ([]byte, error) {
	for _, k := range p.own {
		if slices.EqualFunc(k.man.Layers, descs, func(a, b imgspec.Descriptor) bool { return a.Digest == b.Digest }) {
			return k.raw, nil
		}
	}
	var m imgspec.Manifest
	if err := json.Unmarshal(p.own[0].raw, &m); err != nil {
		return nil, err
	}
	m.MediaType, m.Layers = p.own[0].kind, descs
	if m.MediaType == manifest.DockerV2Schema2MediaType {
		return json.MarshalIndent(m, "", "   ") // as docker does
	}
	return json.Marshal(m)
}

// wasSent notes under which name a registry has an image, with the manifest that it has there.
func (s *Store) wasSent(id moss.ImageID, name string, raw []byte, d digest.Digest) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	if im, ok := s.get(id); !ok || slices.Contains(im.Digests, name) {
		return nil
	}
	key := storage.ImageDigestManifestBigDataNamePrefix + "-" + d.String()
	if err := s.store.SetImageBigData(hexOf(id), key, raw, manifest.Digest); err != nil {
		return err
	}
	if err := s.store.AddNames(hexOf(id), []string{name}); err != nil {
		return err
	}
	_, err := s.fetch(id)
	return err
}

// key begins the keys of what pushes to one repository can share.
func (p *pushing) key() string {
	b, _ := json.Marshal(p.cred) // strings alone
	sum := sha256.Sum256(b)
	return strings.Join([]string{"push", p.ref.Name(), p.own[0].kind, hex.EncodeToString(sum[:])}, " ")
}
