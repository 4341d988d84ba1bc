package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/storage"
	storagearchive "github.com/containers/storage/pkg/archive"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// upload sends the layer's tar with gzip, and checks meanwhile that it is what it was.
func (p *pushing) upload(ctx context.Context, l *pushedLayer, report func(moss.Progress)) (_ digest.Digest, _ int64, err error) {
	plain := storagearchive.Uncompressed
	tar, err := p.s.store.Diff("", l.id, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return "", 0, err
	}
	defer tar.Close()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w, &meter{r: tar, ctx: ctx, size: l.size, tell: func(n int64) {
			report(moss.Progress{ID: shortDigest(l.diff), Status: "Pushing", Current: n, Total: l.size})
		}}, l.diff)
		packed <- err
		_ = w.CloseWithError(err) // nil is the end
	}()
	d, size, err := p.to.Put(ctx, r, false)
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // a pipe's never fails
	if mine := <-packed; mine != nil && !errors.Is(mine, io.ErrClosedPipe) {
		return "", 0, mine // that is why
	}
	return d, size, err
}

// pack compresses a tar that must have that digest.
func pack(w io.Writer, r io.Reader, want digest.Digest) (err error) {
	z, err := compression.CompressStream(w, compression.Gzip, nil)
	if err != nil {
		return err
	}
	sum := want.Algorithm().Digester()
	_, err = io.Copy(io.MultiWriter(z, sum.Hash()), r)
	if err = errors.Join(err, z.Close()); err != nil {
		return err
	}
	if sum.Digest() != want {
		return moss.Errorf(moss.Internal, "layer %s is damaged in the store; pull or load the image again", shortDigest(want))
	}
	return nil
}

// meter tells, not too often, how much was read.
type meter struct {
	r    io.Reader
	ctx  context.Context //nolint:containedctx // of one upload
	n    int64
	size int64
	told time.Time
	tell func(n int64)
}

func (m *meter) Read(b []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(b)
	m.n += int64(n)
	if now := time.Now(); now.Sub(m.told) >= tellEvery {
		m.told = now
		m.tell(m.n)
	}
	return n, err
}

func (p *pushing) sendConfig(ctx context.Context) error {
	_, ok, err := p.to.Has(ctx, digest.Digest(p.im.ID))
	if ok || err != nil {
		return err
	}
	_, _, err = p.to.Put(ctx, bytes.NewReader(p.config), true)
	return err
}
