package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/containers/image/v5/pkg/compression"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// upload sends the layer's tar with gzip, and checks meanwhile that it is what it was. No lock of the store is
// held, as a registry may be slow.
func (p *pushing) upload(ctx context.Context, l *pushedLayer, report func(moss.Progress)) (_ digest.Digest, _ int64, err error) {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		m := &meter{size: l.size, tell: func(n int64) {
			report(moss.Progress{ID: shortDigest(l.diff), Status: "Pushing", Current: n, Total: l.size})
		}}
		err := p.pack(ctx, l, w, m)
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

// pack compresses the layer's tar, which must have its digest.
func (p *pushing) pack(ctx context.Context, l *pushedLayer, w io.Writer, m *meter) error {
	z, err := compression.CompressStream(w, compression.Gzip, nil)
	if err != nil {
		return err
	}
	m.w = z
	err = p.s.layerTar(ctx, l.id, l.diff, m)
	if errors.Is(err, errChanged) {
		err = moss.Errorf(moss.Internal, "layer %s is damaged in the store; pull or load the image again", shortDigest(l.diff))
	}
	return errors.Join(err, z.Close())
}

// meter tells, not too often, how much was written.
type meter struct {
	w    io.Writer
	n    int64
	size int64
	told time.Time
	tell func(n int64)
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.w.Write(b)
	m.n += int64(n)
	if now := time.Now(); now.Sub(m.told) >= tellEvery {
		m.told = now
		m.tell(m.n)
	}
	return n, err
}

// sendConfig makes the registry have the configuration, together with all who want the same at the moment.
func (p *pushing) sendConfig(ctx context.Context) error {
	_, err := transfer.Do(ctx, p.s.transfers, p.key()+" "+string(p.im.ID), nil, func(ctx context.Context, _ func(moss.Progress)) (struct{}, error) {
		_, ok, err := p.to.Has(ctx, digest.Digest(p.im.ID))
		if !ok && err == nil {
			_, _, err = p.to.Put(ctx, bytes.NewReader(p.config), true)
		}
		return struct{}{}, err
	})
	return err
}
