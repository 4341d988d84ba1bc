package registry

import (
	"context"
	"errors"
	"io"

	"github.com/distribution/reference"
)

// A blob is opened anew so often while less than much comes in between.
const (
	reopens = 3
	much    = 1 << 20
)

// resumed reads a blob to its full size. The library takes a broken
// connection up again by itself where the registry knows ranges; this is for what is left: an answer that just
// ends early, and a registry that does not know ranges.
type resumed struct {
	ctx  context.Context //nolint:containedctx // of the reader, as the library's own has it
	ref  reference.Named
	open func() (io.ReadCloser, int64, error)
	r    io.ReadCloser
	size int64 // -1 when not known
	at   int64
	mark int64 // where it was opened last
	left int
}

func (b *resumed) Read(p []byte) (int, error) {
	for {
		n, err := b.r.Read(p)
		b.at += int64(n)
		if errors.Is(err, io.EOF) && b.size >= 0 && b.at < b.size {
			err = io.ErrUnexpectedEOF
		}
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return n, err
		case !b.again(err):
			return n, failure(b.ctx, err, b.ref)
		case n > 0:
			return n, nil
		}
	}
}

// again opens the blob anew and goes to where it broke.
func (b *resumed) again(cause error) bool {
	if b.at-b.mark >= much {
		b.left = reopens
	}
	if _, ok := Retryable(cause); !ok || b.left == 0 || b.ctx.Err() != nil {
		return false
	}
	b.left--
	r, _, err := b.open()
	if err != nil {
		return false
	}
	if _, err := io.CopyN(io.Discard, r, b.at); err != nil {
		r.Close()
		return false
	}
	b.r.Close()
	b.r, b.mark = r, b.at
	return true
}

func (b *resumed) Close() error { return b.r.Close() }
