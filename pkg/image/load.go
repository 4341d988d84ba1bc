package image

import (
	"context"
	"errors"
	"io"
	"sync"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
)

// archived is one image of an archive: everything but the contents of its layers.
type archived struct {
	names        []string // normalised
	config       []byte
	manifest     []byte // nil where the archive has none
	diffIDs      []digest.Digest
	platform     imgspec.Platform
	layers       []archivedLayer
	attestations []moss.Attestation
}

// archivedLayer is where a layer is, and what it must be.
type archivedLayer struct {
	at   *io.SectionReader
	want layer.Expect
}

// complete fills in what the configuration says and checks that it suits the layers.
func (a *archived) complete() error {
	im, diffs, err := decodePulled(a.config, make([]imgspec.Descriptor, len(a.layers)))
	if err != nil {
		return err
	}
	a.platform, a.diffIDs = platformOf(im), diffs
	for i, d := range diffs {
		a.layers[i].want.DiffID = d
	}
	return nil
}

// Load reads a docker- or OCI-archive of one or more images, compressed or
// not. It brings in all of them or none: they get their names when every one is
// there. The lines for progress have no newline.
func (s *Store) Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) (_ []moss.LoadedImage, err error) {
	defer func() { err = moss.Wrap(s.diskFull(err), "load the archive", "") }()
	defer s.disk.Changed()
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	f, err := s.spool(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, discard(f)) }()
	a, err := scan(f)
	if err != nil {
		return nil, broken(err)
	}
	images, err := a.images(want)
	if err != nil {
		return nil, broken(err)
	}
	loaded, lines, err := s.bring(ctx, images, progress)
	for _, status := range lines {
		progress(moss.Progress{Status: status})
	}
	return loaded, err
}

// bring puts the images' layers in, and then the images with their names. On an
// error none of those that are new stays. The lines are for the client, who may be slow.
func (s *Store) bring(ctx context.Context, images []archived, progress func(moss.Progress)) (loaded []moss.LoadedImage, lines []string, err error) {
	steps, chains := s.steps(images)
	release, err := s.hold(ctx, chains...)
	if err != nil {
		return nil, nil, err
	}
	var made []string // layers
	defer func() {
		release() // before layers can go
		if err != nil {
			err = errors.Join(err, s.abandon(made))
		}
	}()
	steps = s.missing(steps)
	defer func() { err = errors.Join(err, discardSteps(steps)) }()
	if err := s.stage(ctx, steps, progress); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // whatever else it broke
		}
		return nil, nil, broken(err)
	}
	for _, st := range steps {
		id, err := s.commit(st.staged, st.parent, progress)
		if err != nil {
			return nil, nil, err
		}
		made = append(made, id)
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	ids, err := s.enterLocked(images)
	if err != nil {
		return nil, nil, err
	}
	return s.nameLoadedLocked(images, ids)
}

// enterLocked puts all images in without names, or none; s.naming is held until they have them.
func (s *Store) enterLocked(images []archived) (ids []moss.ImageID, err error) {
	var fresh []moss.ImageID
	for _, im := range images {
		id, isNew, err := s.recordLocked(newRecord{config: im.config, manifest: im.manifest, top: layer.ChainID(im.diffIDs), attestations: im.attestations, unnamed: true})
		if isNew {
			fresh = append(fresh, id)
		}
		if err != nil {
			for _, id := range fresh {
				_, undo := s.deleteLocked(id)
				err = errors.Join(err, undo)
			}
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// nameLoadedLocked gives loaded images their names, or leaves them without, and tells what docker tells; s.naming is held.
func (s *Store) nameLoadedLocked(images []archived, ids []moss.ImageID) (loaded []moss.LoadedImage, lines []string, err error) {
	for i, im := range images {
		if len(im.names) == 0 {
			if err := s.confirm(ids[i]); err != nil {
				return loaded, lines, err
			}
			loaded = append(loaded, moss.LoadedImage{ID: ids[i]})
			lines = append(lines, "Loaded image ID: "+string(ids[i]))
		}
		for _, name := range im.names {
			had, err := s.nameLocked(ids[i], name)
			if err != nil {
				return loaded, lines, err
			}
			if had != "" {
				lines = append(lines, "The image "+familiar(name)+" already exists, renaming the old one with ID "+string(had)+" to empty string")
			}
			loaded = append(loaded, moss.LoadedImage{ID: ids[i], Name: familiar(name)})
			lines = append(lines, "Loaded image: "+familiar(name))
		}
	}
	return loaded, lines, nil
}

// archivedStep is one layer to bring in.
type archivedStep struct {
	chain, parent string
	from          archivedLayer
	staged        *layer.Staged
}

// steps lists the layers of images, each once and after its parent.
func (s *Store) steps(images []archived) (steps []*archivedStep, chains []string) {
	seen := map[string]bool{}
	for _, im := range images {
		parent := ""
		for i, d := range im.diffIDs {
			id := layer.Under(parent, d)
			if !seen[id] {
				seen[id] = true
				steps = append(steps, &archivedStep{chain: id, parent: parent, from: im.layers[i]})
				chains = append(chains, id)
			}
			parent = id
		}
	}
	return steps, chains
}

// missing leaves out what is in the store.
func (s *Store) missing(steps []*archivedStep) (left []*archivedStep) {
	for _, st := range steps {
		if _, ok := s.unpacker.Has(st.chain); !ok {
			left = append(left, st)
		}
	}
	return left
}

// parallelLayers are unpacked at a time. More gain nothing: two keep a disk busy.
const parallelLayers = 3

// stage unpacks layers beside each other.
func (s *Store) stage(ctx context.Context, steps []*archivedStep, progress func(moss.Progress)) error {
	var one sync.Mutex // at a time reports
	report := func(p moss.Progress) {
		one.Lock()
		defer one.Unlock()
		progress(p)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLayers)
	for _, st := range steps {
		g.Go(func() (err error) {
			r := &loadMeter{r: st.from.at, p: moss.Progress{ID: st.from.want.DiffID.Encoded()[:12], Status: "Loading layer", Total: st.from.at.Size()}, report: report}
			if st.staged, err = s.unpacker.Stage(ctx, r, st.from.want); err == nil {
				r.tell()
			}
			return err
		})
	}
	return g.Wait()
}

func discardSteps(steps []*archivedStep) error {
	var errs []error
	for _, st := range steps {
		if st.staged != nil {
			errs = append(errs, st.staged.Discard())
		}
	}
	return errors.Join(errs...)
}

// loadMeter reports how much of a layer was read, in steps that a person can see.
type loadMeter struct {
	r      io.Reader
	p      moss.Progress
	told   int64
	report func(moss.Progress)
}

func (m *loadMeter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.p.Current += int64(n)
	if m.p.Current-m.told >= max(m.p.Total/50, 512<<10) && m.p.Current < m.p.Total {
		m.tell()
	}
	return n, err
}

func (m *loadMeter) tell() {
	m.told = m.p.Current
	m.report(m.p)
}
