package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// step is one layer of an image that is pulled, on top of those below it.
type step struct {
	desc  imgspec.Descriptor
	diff  digest.Digest
	chain string // id of the layer in the store
	below *step  // nil for the lowest
}

func stepsOf(layers []imgspec.Descriptor, diffs []digest.Digest) []*step {
	steps := make([]*step, len(layers))
	for i, d := range layers {
		steps[i] = &step{desc: d, diff: diffs[i], chain: layer.ChainID(diffs[:i+1])}
		if i > 0 {
			steps[i].below = steps[i-1]
		}
	}
	return steps
}

func (st *step) report(to func(moss.Progress), status string) {
	to(moss.Progress{ID: shortDigest(st.desc.Digest), Status: status})
}

func (st *step) parent() string {
	if st.below == nil {
		return ""
	}
	return st.below.chain
}

// layers brings those that are not there; each comes in beside the others.
func (p *pulling) layers(ctx context.Context, steps []*step) error {
	var missing []*step
	for _, st := range steps {
		if p.s.stager.Has(st.chain) {
			st.report(p.report, "Already exists")
			continue
		}
		st.report(p.report, "Pulling fs layer")
		missing = append(missing, st)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, st := range missing {
		g.Go(func() error {
			return p.layer(ctx, st, func(r moss.Progress) {
				if r.ID != "" {
					r.ID = shortDigest(st.desc.Digest) // another image may have the same in another form
				}
				p.report(r)
			})
		})
	}
	return g.Wait()
}

// layer brings one, together with all who need it at the moment.
func (p *pulling) layer(ctx context.Context, st *step, progress func(moss.Progress)) error {
	for {
		_, err := transfer.Do(ctx, p.s.transfers, "layer "+st.chain, progress, func(ctx context.Context, report func(moss.Progress)) (struct{}, error) {
			return struct{}{}, p.arrive(ctx, st, report)
		})
		if errors.Is(err, errSourceClosed) && ctx.Err() == nil {
			continue // we joined one who left
		}
		return err
	}
}

// arrive fetches and unpacks a layer while those below it come in, and commits
// it when they are there. It may go on after its pull has left.
func (p *pulling) arrive(ctx context.Context, st *step, report func(moss.Progress)) (err error) {
	if p.s.stager.Has(st.chain) {
		st.report(report, "Already exists")
		return nil
	}
	if !p.src.hold() {
		return errSourceClosed
	}
	// One that is on top of it may ask for it after it has failed.
	if err, failed := p.failed.Load(st.chain); failed {
		return errors.Join(err.(error), p.src.drop()) //nolint:forcetypeassert // see below
	}
	defer func() {
		if err != nil {
			p.failed.Store(st.chain, err)
		}
	}()
	defer func() { _ = p.src.drop() }() // what was to be read is read
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	below := make(chan struct{})
	go func() {
		defer close(below)
		if st.below == nil {
			return
		}
		if err := p.layer(ctx, st.below, nil); err != nil {
			stop(err)
		}
	}()
	staged, err := p.stage(ctx, st, report)
	if err != nil {
		stop(err)
	}
	<-below
	// The first failure tells what is wrong; others follow from it.
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, discardStaged(staged))
	}
	report(moss.Progress{ID: shortDigest(st.desc.Digest), Status: "Extracting", Current: st.desc.Size, Total: st.desc.Size})
	if _, err := p.s.commit(staged, st.parent(), report); err != nil {
		return errors.Join(err, discardStaged(staged))
	}
	st.report(report, "Pull complete")
	return nil
}

func discardStaged(g stagedLayer) error {
	if g == nil {
		return nil
	}
	return g.Discard()
}

// stage fetches and unpacks a layer, again where that may help. What is wrong
// with its contents may have happened on the way, once.
func (p *pulling) stage(ctx context.Context, st *step, report func(moss.Progress)) (staged stagedLayer, err error) {
	var bad int
	retryable := p.retryable(&bad)
	left := func(seconds int) {
		s := "s"
		if seconds == 1 {
			s = ""
		}
		st.report(report, fmt.Sprintf("Retrying in %d second%s", seconds, s))
	}
	err = p.s.transfers.Retry(ctx, retryable, left, func(int) (err error) {
		staged, err = p.stageOnce(ctx, st, report)
		return err
	})
	switch {
	case err == nil:
		return staged, nil
	case bad > 1:
		return nil, fmt.Errorf("filesystem layer verification failed for digest %s, twice: %w", st.desc.Digest, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("layer %s: %w", shortDigest(st.desc.Digest), err)
}

func (p *pulling) stageOnce(ctx context.Context, st *step, report func(moss.Progress)) (stagedLayer, error) {
	release, err := p.s.transfers.Download(ctx, func() { st.report(report, "Waiting") })
	if err != nil {
		return nil, err
	}
	defer release()
	r, _, err := p.src.Blob(ctx, st.desc.Digest, st.desc.Size, st.desc.URLs)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	m := &gauge{r: r, id: shortDigest(st.desc.Digest), size: st.desc.Size, report: report}
	m.tell(time.Now())
	staged, err := p.s.stager.Stage(ctx, m, layer.Expect{Digest: st.desc.Digest, DiffID: st.diff, Size: st.desc.Size})
	p.fetched.Add(m.n)
	if err != nil && m.err != nil {
		return nil, m.err // what came of it in the unpacking tells less
	}
	if err != nil {
		return nil, &ourError{err}
	}
	st.report(report, "Verifying Checksum") // which went along with the unpacking
	st.report(report, "Download complete")
	return staged, nil
}

// ourError is one that neither the registry nor the way to it is to blame for,
// but the contents or this machine.
type ourError struct{ error }

func (e *ourError) Unwrap() error { return e.error }

// retryable counts in bad how often contents were not what they should be.
func (p *pulling) retryable(bad *int) func(error) (time.Duration, bool) {
	return func(err error) (time.Duration, bool) {
		if moss.ClassOf(err) == moss.Invalid {
			*bad++
			return 0, *bad == 1
		}
		if _, ours := errors.AsType[*ourError](err); ours {
			return 0, false
		}
		return p.s.registries.Retryable(err)
	}
}

// gauge reads a blob and tells how far it is.
type gauge struct {
	r      io.Reader
	id     string
	size   int64 // 0 when not known
	n      int64
	err    error // of r, but its end
	told   time.Time
	report func(moss.Progress)
}

const tellEvery = 100 * time.Millisecond

func (m *gauge) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	end := err == io.EOF // and nothing that wraps it
	if end && m.n < m.size {
		end, err = false, io.ErrUnexpectedEOF // cut short, which the layer is not to blame for
	}
	if err != nil && !end {
		m.err = err
	}
	if now := time.Now(); now.Sub(m.told) >= tellEvery {
		m.tell(now)
	}
	return n, err
}

func (m *gauge) tell(now time.Time) {
	m.told = now
	m.report(moss.Progress{ID: m.id, Status: "Downloading", Current: m.n, Total: m.size})
}

// small fetches a blob into memory. One that comes damaged is asked for once more.
func (p *pulling) small(ctx context.Context, d imgspec.Descriptor, limit int64) (b []byte, err error) {
	if d.Size > limit {
		return nil, moss.Errorf(moss.TooLarge, "blob %s is too large: %d bytes", d.Digest, d.Size)
	}
	var bad int
	err = p.s.transfers.Retry(ctx, p.retryable(&bad), nil, func(int) (err error) {
		b, err = p.smallOnce(ctx, d, limit)
		return err
	})
	return b, err
}

func (p *pulling) smallOnce(ctx context.Context, d imgspec.Descriptor, limit int64) ([]byte, error) {
	r, _, err := p.src.Blob(ctx, d.Digest, d.Size, d.URLs)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(buf.Bytes()) != d.Digest {
		return nil, moss.Errorf(moss.Invalid, "blob %s does not have that digest", d.Digest)
	}
	return buf.Bytes(), nil
}
