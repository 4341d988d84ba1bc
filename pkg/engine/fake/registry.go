package fake

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	_ engine.ImageTransfers = (*Registry)(nil)
	_ engine.Registries     = (*Registry)(nil)
)

// Registry is a registry in memory, and the client of it for one store: it is an
// engine.ImageTransfers and an engine.Registries.
type Registry struct {
	*contents
	images *Images
}

// contents is what a registry has; clients of several stores may share it.
type contents struct {
	host               string
	username, password string // none are asked for where they are empty

	mu        sync.Mutex
	blobs     map[string][]byte // by digest
	manifests map[string]kept   // by repository@digest
	tags      map[string]string // repository:tag → digest
	results   []moss.SearchResult
	fail      map[string]error
}

type kept struct {
	mediaType string
	data      []byte
}

// NewRegistry makes an empty registry that is reached by the name host, and its client for a store.
func NewRegistry(host string, images *Images) *Registry {
	return &Registry{images: images, contents: &contents{
		host: host, blobs: map[string][]byte{}, manifests: map[string]kept{}, tags: map[string]string{}, fail: map[string]error{},
	}}
}

// For is the same registry's client for another store.
func (r *Registry) For(images *Images) *Registry {
	return &Registry{images: images, contents: r.contents}
}

// Require makes the registry ask for credentials.
func (r *Registry) Require(username, password string) { r.username, r.password = username, password }

// Offer makes searches find something.
func (r *Registry) Offer(results ...moss.SearchResult) { r.results = append(r.results, results...) }

// Fail makes a method ("Pull", "Push", "Login", "Search", "Distribution", "blob") return err until it is
// called with nil. "blob" is the reading of one while a pull is under way.
func (r *Registry) Fail(method string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[method] = err
}

func (r *Registry) failure(ctx context.Context, method string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(ctx.Err(), r.fail[method])
}

// Host is the registry's name.
func (r *Registry) Host() string { return r.host }

// PutBlob keeps a blob.
func (r *Registry) PutBlob(_ string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs["sha256:"+sum(data)] = data
}

// PutManifest keeps a manifest under its digest, and under a tag if that is not empty.
func (r *Registry) PutManifest(repo, tag, mediaType string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	digest := "sha256:" + sum(data)
	r.manifests[repo+"@"+digest] = kept{mediaType, data}
	if tag != "" {
		r.tags[repo+":"+tag] = digest
	}
}

// Manifest returns a manifest by tag or digest; nil when there is none.
func (r *Registry) Manifest(repo, ref string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[repo+"@"+r.digestLocked(repo, ref)].data
}

func (r *Registry) digestLocked(repo, ref string) string {
	if strings.HasPrefix(ref, "sha256:") {
		return ref
	}
	return r.tags[repo+":"+ref]
}

// allows checks credentials.
func (r *Registry) allows(c moss.Credentials) error {
	if c.Username == r.username && c.Password == r.password || r.username == "" {
		return nil
	}
	return moss.Errorf(moss.Unauthorized, "unauthorized: authentication required")
}

// place reads a reference: the repository in the registry, and a tag, a digest or nothing.
func (r *Registry) place(ref string) (repo, what string, err error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", moss.Errorf(moss.Invalid, "%w", err)
	}
	if reference.Domain(named) != r.host {
		return "", "", moss.Errorf(moss.NotFound, "manifest for %s not found: the fake has no such registry", reference.FamiliarString(named))
	}
	switch n := named.(type) {
	case reference.Digested:
		what = n.Digest().String()
	case reference.Tagged:
		what = n.Tag()
	}
	return reference.Path(named), what, nil
}

// Pull implements engine.ImageTransfers.
func (r *Registry) Pull(ctx context.Context, q moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error) {
	if err := errors.Join(r.failure(ctx, "Pull"), r.allows(q.Credentials)); err != nil {
		return nil, err
	}
	repo, what, err := r.place(q.Ref)
	if err != nil {
		return nil, err
	}
	if !q.All {
		got, err := r.pull(ctx, q, q.Ref, repo, what, progress)
		if err != nil {
			return nil, err
		}
		return []moss.PulledImage{got}, nil
	}
	var all []moss.PulledImage
	for _, tag := range r.tagsOf(repo) {
		got, err := r.pull(ctx, q, q.Ref+":"+tag, repo, tag, progress)
		if err != nil {
			return all, err
		}
		all = append(all, got)
	}
	if len(all) == 0 {
		return nil, moss.Errorf(moss.NotFound, "repository %s not found", familiar(q.Ref))
	}
	return all, nil
}

func (r *Registry) tagsOf(repo string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var tags []string
	for name := range r.tags {
		if tag, ok := strings.CutPrefix(name, repo+":"); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

func (r *Registry) pull(ctx context.Context, q moss.PullRequest, ref, repo, what string, progress func(moss.Progress)) (moss.PulledImage, error) {
	digest, im, err := r.fetch(ctx, ref, repo, what, q.Platform, func() {
		progress(moss.Progress{ID: what, Status: "Pulling from " + repo})
	})
	if err != nil {
		return moss.PulledImage{}, err
	}
	for _, l := range im.layers {
		progress(moss.Progress{ID: sum(l)[:12], Status: "Pull complete"})
	}
	got := moss.PulledImage{Ref: ref, ID: im.ID, Digest: digest, New: r.images.arrived(im, ref, r.host+"/"+repo+"@"+digest, digest)}
	progress(moss.Progress{Status: "Digest: " + digest})
	status := "Status: Image is up to date for "
	if got.New {
		status = "Status: Downloaded newer image for "
	}
	progress(moss.Progress{Status: status + familiar(ref)})
	return got, nil
}

// fetch reads an image; begin is called when it is known to be there.
func (r *Registry) fetch(ctx context.Context, ref, repo, what, wanted string, begin func()) (digest string, im unpacked, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	digest = r.digestLocked(repo, what)
	m, err := r.manifestLocked(repo, digest, ref)
	if err != nil {
		return "", im, err
	}
	if len(m.Manifests) > 0 {
		if wanted == "" {
			wanted = "linux/amd64"
		}
		i := slices.IndexFunc(m.Manifests, func(d *descriptor) bool { return d.Platform != nil && d.Platform.String() == wanted })
		if i < 0 {
			return "", im, moss.Errorf(moss.NotFound, "no matching manifest for %s in the manifest list entries", wanted)
		}
		if m, err = r.manifestLocked(repo, m.Manifests[i].Digest, ref); err != nil {
			return "", im, err
		}
	}
	begin()
	var layers [][]byte
	for _, l := range m.Layers {
		if err := errors.Join(ctx.Err(), r.fail["blob"]); err != nil {
			return "", im, err
		}
		layers = append(layers, r.blobs[l.Digest])
	}
	if im, err = unpack(r.blobs[m.Config.Digest], layers); err != nil {
		return "", im, moss.Errorf(moss.Invalid, "%w", err)
	}
	if wanted != "" && !fits(im.Image, wanted) {
		return "", im, moss.Errorf(moss.NotFound, "image with reference %s was found but its platform (%s/%s) does not match the specified platform (%s)", familiar(ref), im.OS, im.Architecture, wanted)
	}
	return digest, im, nil
}

func (r *Registry) manifestLocked(repo, digest, ref string) (m ociManifest, err error) {
	k, ok := r.manifests[repo+"@"+digest]
	if !ok {
		return m, moss.Errorf(moss.NotFound, "manifest for %s not found: manifest unknown", familiar(ref))
	}
	err = json.Unmarshal(k.data, &m)
	return m, err
}

// arrived enters an image that was pulled, and says whether something is new.
func (s *Images) arrived(im unpacked, ref, byDigest, digest string) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im.Digest = digest
	had, _ := s.byNameLocked(ref)
	fresh = s.enterLocked(im) || had.ID != im.ID
	if !strings.Contains(ref, "@") && had.ID != im.ID {
		_ = s.tagLocked(im.ID, ref) // it is there
	}
	now := s.images[im.ID]
	if !slices.Contains(now.Digests, byDigest) {
		now.Digests = append(slices.Clip(now.Digests), byDigest)
		s.images[im.ID] = now
	}
	return fresh
}

// Push implements engine.ImageTransfers.
func (r *Registry) Push(ctx context.Context, q moss.PushRequest, progress func(moss.Progress)) ([]moss.PushedImage, error) {
	if err := errors.Join(r.failure(ctx, "Push"), r.allows(q.Credentials)); err != nil {
		return nil, err
	}
	refs := []string{q.Ref}
	if q.All {
		refs = r.images.tagged(q.Ref)
	}
	if len(refs) == 0 {
		return nil, moss.Errorf(moss.NotFound, "An image does not exist locally with the tag: %s", familiar(q.Ref))
	}
	var all []moss.PushedImage
	for _, ref := range refs {
		repo, tag, err := r.place(ref)
		if err != nil {
			return all, err
		}
		got, err := r.push(ctx, q, ref, repo, tag)
		if err != nil {
			return all, err
		}
		progress(moss.Progress{Status: tag + ": digest: " + got.Digest})
		all = append(all, got)
	}
	return all, nil
}

func (s *Images) tagged(name string) (refs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, im := range s.images {
		for _, n := range im.Names {
			if strings.HasPrefix(n, name+":") {
				refs = append(refs, n)
			}
		}
	}
	slices.Sort(refs)
	return refs
}

func (r *Registry) push(ctx context.Context, q moss.PushRequest, ref, repo, tag string) (moss.PushedImage, error) {
	im, err := r.images.Resolve(ctx, ref)
	if err != nil {
		if moss.ClassOf(err) == moss.NotFound {
			err = moss.Errorf(moss.NotFound, "An image does not exist locally with the tag: %s", familiarName(ref))
		}
		return moss.PushedImage{}, err
	}
	if q.Platform != "" && !fits(im, q.Platform) {
		return moss.PushedImage{}, moss.Errorf(moss.NotFound, "image with reference %s was found but its platform (%s/%s) does not match the specified platform (%s)", familiar(ref), im.OS, im.Architecture, q.Platform)
	}
	r.images.mu.Lock()
	m, err := r.images.manifestLocked(im)
	blobs := [][]byte{r.images.blobs[string(im.ID)]}
	for _, d := range im.DiffIDs {
		blobs = append(blobs, r.images.blobs[d])
	}
	r.images.mu.Unlock()
	if err != nil {
		return moss.PushedImage{}, err
	}
	for _, b := range blobs {
		r.PutBlob(repo, b)
	}
	r.PutManifest(repo, tag, typeManifest, m)
	return moss.PushedImage{Tag: tag, Digest: "sha256:" + sum(m), Size: int64(len(m))}, nil
}

func familiarName(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarName(named)
}

// Login implements engine.Registries.
func (r *Registry) Login(ctx context.Context, c moss.Credentials) (moss.Login, error) {
	if err := errors.Join(r.failure(ctx, "Login"), r.allows(c)); err != nil {
		return moss.Login{}, err
	}
	return moss.Login{Status: "Login Succeeded"}, nil
}

// Search implements engine.Registries.
func (r *Registry) Search(ctx context.Context, q moss.SearchQuery) ([]moss.SearchResult, error) {
	if err := errors.Join(r.failure(ctx, "Search"), r.allows(q.Credentials)); err != nil {
		return nil, err
	}
	if strings.Contains(q.Term, "://") || q.Limit < 0 || q.Limit > 100 {
		return nil, moss.Errorf(moss.Invalid, "invalid search")
	}
	term := strings.TrimPrefix(q.Term, r.host+"/")
	var found []moss.SearchResult
	for _, s := range r.results {
		if strings.Contains(s.Name, term) && s.Stars >= q.Stars && (q.Official == nil || *q.Official == s.Official) && (q.Automated == nil || *q.Automated == s.Automated) {
			found = append(found, s)
		}
	}
	if limit := q.Limit; limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found, nil
}

// Distribution implements engine.Registries.
func (r *Registry) Distribution(ctx context.Context, ref string, c moss.Credentials) (moss.Distribution, error) {
	if err := errors.Join(r.failure(ctx, "Distribution"), r.allows(c)); err != nil {
		return moss.Distribution{}, err
	}
	repo, what, err := r.place(ref)
	if err != nil {
		return moss.Distribution{}, err
	}
	if what == "" {
		what = "latest"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	digest := r.digestLocked(repo, what)
	m, err := r.manifestLocked(repo, digest, ref)
	if err != nil {
		return moss.Distribution{}, err
	}
	k := r.manifests[repo+"@"+digest]
	d := moss.Distribution{MediaType: k.mediaType, Digest: digest, Size: int64(len(k.data))}
	for _, p := range m.Manifests {
		if p.Platform != nil {
			d.Platforms = append(d.Platforms, p.Platform.String())
		}
	}
	if len(m.Manifests) == 0 {
		var doc document
		if err := json.Unmarshal(r.blobs[m.Config.Digest], &doc); err != nil {
			return d, err
		}
		d.Platforms = []string{doc.OS + "/" + doc.Architecture}
	}
	return d, nil
}

// Info implements engine.Registries.
func (r *Registry) Info() moss.RegistryInfo {
	return moss.RegistryInfo{Insecure: []string{"127.0.0.0/8"}}
}
