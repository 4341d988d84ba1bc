package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/distribution/reference"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// Pull brings an image, or every tag's, unless it is there. An image and its
// names come into sight in one step, after all that it is made of is stored and
// checked. Of a pull that fails, is cancelled or killed only finished layers
// stay, for the next try; Collect removes them.
//
// Clients who pull the same at the same time share the work, and pulls of
// different images the layers that they have in common. progress is called one
// call at a time. What was brought before an error is returned with it.
func (s *Store) Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) (got []moss.PulledImage, err error) {
	defer func() { err = moss.Wrap(s.diskFull(err), "pull", familiar(r.Ref)) }()
	defer s.disk.Changed()
	if s.registries == nil {
		return nil, moss.Errorf(moss.Unavailable, "no registries are configured")
	}
	named, err := reference.ParseNormalizedNamed(r.Ref)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "invalid reference format: %w", err)
	}
	platform, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	refs := []reference.Named{reference.TagNameOnly(named)}
	if r.All {
		if refs, err = s.allTags(ctx, named, r.Credentials); err != nil {
			return nil, err
		}
	}
	isNew := false
	for _, ref := range refs {
		p := &pulling{s: s, ref: ref, platform: platform, cred: r.Credentials}
		one, err := transfer.Do(ctx, s.transfers, p.key(), progress, p.run)
		if err != nil {
			return got, err
		}
		got = append(got, one)
		isNew = isNew || one.New
	}
	status := "Status: Image is up to date for "
	if isNew {
		status = "Status: Downloaded newer image for "
	}
	progress(moss.Progress{Status: status + familiar(r.Ref)})
	return got, nil
}

func (s *Store) allTags(ctx context.Context, named reference.Named, cred moss.Credentials) ([]reference.Named, error) {
	if !reference.IsNameOnly(named) {
		return nil, moss.Errorf(moss.Invalid, "tag can't be used with --all-tags/-a")
	}
	var tags []string
	err := s.transfers.Retry(ctx, s.registries.Retryable, nil, func(int) (err error) {
		tags, err = s.registries.Tags(ctx, named.Name(), cred)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(tags)
	refs := make([]reference.Named, 0, len(tags))
	for _, t := range slices.Compact(tags) {
		ref, err := reference.WithTag(named, t)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "the registry has a tag %q: %w", t, err)
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return nil, moss.Errorf(moss.NotFound, "the repository has no tags")
	}
	return refs, nil
}

// pulling is the pull of one reference, on behalf of all who asked for it.
type pulling struct {
	s        *Store
	ref      reference.Named // with a tag or digest
	platform imgspec.Platform
	cred     moss.Credentials

	report  func(moss.Progress)
	src     *lease
	fetched atomic.Int64 // bytes of layers
	failed  sync.Map     // error of each layer that failed, by chain id
}

// key is the same for those who can share a pull.
func (p *pulling) key() string {
	b, _ := json.Marshal(p.cred) // strings alone
	sum := sha256.Sum256(b)
	return strings.Join([]string{"pull", p.ref.String(), platformText(p.platform), hex.EncodeToString(sum[:])}, " ")
}

func (p *pulling) run(ctx context.Context, report func(moss.Progress)) (got moss.PulledImage, err error) {
	p.report = report
	if p.platform.OS == "" {
		p.platform = thisMachine()
	}
	report(moss.Progress{ID: p.label(), Status: "Pulling from " + reference.Path(p.ref)})
	err = p.try(ctx, func() error {
		src, err := p.s.registries.Open(ctx, p.ref.String(), p.cred)
		if err == nil {
			p.src = newLease(src)
		}
		return err
	})
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, p.src.drop()) }()
	c, err := p.choose(ctx)
	if err != nil {
		return got, err
	}
	if err := p.vouched(ctx, c); err != nil {
		return got, err
	}
	got = moss.PulledImage{Ref: p.ref.String(), ID: moss.ImageID(c.man.Config.Digest), Digest: c.topDigest.String()}
	if got.New, err = p.bring(ctx, c); err != nil {
		return got, err
	}
	report(moss.Progress{Status: "Digest: " + got.Digest})
	if p.fetched.Load() > muchFetched {
		go debug.FreeOSMemory() // what the layers' streams went through
	}
	return got, nil
}

const muchFetched = 32 << 20

// label is what docker's progress calls a reference.
func (p *pulling) label() string {
	if d, ok := p.ref.(reference.Digested); ok {
		return d.Digest().String()
	}
	return p.ref.(reference.Tagged).Tag() //nolint:forcetypeassert // it has one of the two
}

// bring puts the image into the store, unless it is there, and gives it its names.
func (p *pulling) bring(ctx context.Context, c chosen) (isNew bool, err error) {
	r := pulled{id: moss.ImageID(c.man.Config.Digest), names: p.names(c), raw: c.raw, digest: c.digest, index: c.index, indexDigest: c.topDigest}
	for {
		if im, ok := p.s.get(r.id); ok {
			p.warn(im)
			isNew, err := p.s.rename(r)
			if !errors.Is(err, errGone) {
				return isNew, err
			}
			continue // it was deleted in between
		}
		if err := p.parts(ctx, c, &r); err != nil {
			return false, err
		}
		return true, nil
	}
}

// parts fetches what the image is made of, and makes it.
func (p *pulling) parts(ctx context.Context, c chosen, r *pulled) error {
	config, err := p.small(ctx, *c.man.Config, maxJSON)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	im, diffs, err := decodePulled(config, c.man.Layers)
	if err != nil {
		return err
	}
	if im.OS != "" && im.OS != thisMachine().OS {
		return moss.Errorf(moss.Invalid, "image operating system %q cannot be used on this platform: operating system is not supported", im.OS)
	}
	p.warn(im)
	steps := stepsOf(c.man.Layers, diffs)
	ids := make([]string, len(steps))
	for i, st := range steps {
		ids[i] = st.chain
	}
	// From here on nobody removes what we find.
	release, err := p.s.hold(ctx, ids...)
	if err != nil {
		return err
	}
	defer release()
	statements := make(chan []moss.Attestation, 1)
	aside, stop := context.WithCancel(ctx)
	defer stop()
	go func() { statements <- p.statements(aside, c.attests) }()
	err = p.layers(ctx, steps)
	if err != nil {
		stop()
	}
	r.attests = <-statements
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	r.config, r.created = config, im.Created
	if len(ids) > 0 {
		r.top = ids[len(ids)-1]
	}
	return p.s.keep(*r)
}

// names are what the image is to be called: the tag, and the digest of what it named.
func (p *pulling) names(c chosen) (list []string) {
	repo := reference.TrimNamed(p.ref).Name()
	if _, ok := p.ref.(reference.Digested); !ok {
		list = append(list, p.ref.String())
	}
	return append(list, repo+"@"+c.topDigest.String())
}

// warn says, as docker does, that an image is not for the platform asked for.
func (p *pulling) warn(im moss.Image) {
	has := platformOf(im)
	if has.OS == "" || slices.ContainsFunc(runnable(p.platform), func(q imgspec.Platform) bool { return suits(q, has) }) {
		return
	}
	p.report(moss.Progress{Status: fmt.Sprintf("WARNING: image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
		reference.FamiliarString(p.ref), platformText(p.platform), platformText(has))})
}

// try asks the registry again where that may help.
func (p *pulling) try(ctx context.Context, fn func() error) error {
	return p.s.transfers.Retry(ctx, p.s.registries.Retryable, nil, func(int) error { return fn() })
}

// diskFull says in plain words what happened where there is no room left.
func (s *Store) diskFull(err error) error {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		// Of an error of another process only the text is left.
		if err != nil && (errors.Is(err, full) || strings.Contains(err.Error(), full.Error())) {
			return fmt.Errorf("%s the device that holds %s", map[syscall.Errno]string{syscall.ENOSPC: "no space left on", syscall.EDQUOT: "disk quota exceeded on"}[full], s.store.GraphRoot())
		}
	}
	return err
}
