package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxWindow bounds the memory of a zstd decoder, as the zstd tool does.
const maxWindow = 128 << 20

// stream is a layer's tar, read from the layer's stream.
type stream struct {
	want  Expect
	src   *source
	buf   *bufio.Reader
	plain io.Reader
	free  func()
	sum   hash.Hash
	n     int64
	err   error // of plain
}

func openStream(ctx context.Context, r io.Reader, want Expect) *stream {
	s := &stream{want: want, src: &source{ctx: ctx, r: r, sum: sha256.New(), max: want.Size}, sum: sha256.New(), free: func() {}}
	s.buf = bufio.NewReaderSize(s.src, 64<<10)
	return s
}

// Read gives the tar. Errors of the contents are moss.Invalid.
func (s *stream) Read(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	defer func() {
		if v := recover(); v != nil { // a decoder met what its author did not think of
			n, err = 0, fmt.Errorf("decompressing: %v", v)
		}
		if err != nil {
			s.err = s.classify(err)
			err = s.err
		}
	}()
	if s.plain == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n, err = s.plain.Read(p)
	_, _ = s.sum.Write(p[:n]) // never fails
	s.n += int64(n)
	return n, err
}

// classify tells the reader's errors from the contents'.
func (s *stream) classify(err error) error {
	switch {
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	case s.src.err != nil:
		return s.src.err
	}
	return invalid(err)
}

func (s *stream) open() error {
	head, err := s.buf.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) == 0 {
		return moss.Errorf(moss.Invalid, "the layer is empty")
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		s.plain, err = gzip.NewReader(s.buf)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) > 3 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		var z *zstd.Decoder
		z, err = zstd.NewReader(s.buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			s.plain, s.free = z, z.Close
		}
	case bytes.HasPrefix(head, []byte("BZh")):
		s.plain = bzip2.NewReader(s.buf)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		s.plain, err = xz.NewReader(s.buf)
	default:
		s.plain = s.buf
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// finish reads what is left and says what the stream was. err is the reader's
// of the tar.
func (s *stream) finish(err error) (Info, error) {
	defer func() { s.free() }()
	if err == nil {
		_, err = io.Copy(io.Discard, s)
	}
	if err == nil { // what a decoder leaves unread is part of the digest
		_, err = io.Copy(io.Discard, s.buf)
	}
	if err != nil {
		return Info{}, err
	}
	info := Info{
		DiffID: digest.NewDigest(digest.SHA256, s.sum), Size: s.n,
		Digest: digest.NewDigest(digest.SHA256, s.src.sum), Compressed: s.src.n,
	}
	if s.want.Size > 0 && s.src.n != s.want.Size {
		return info, moss.Errorf(moss.Invalid, "the layer has %d bytes where %d are expected", s.src.n, s.want.Size)
	}
	if err := sameDigest("digest", info.Digest, s.want.Digest); err != nil {
		return info, err
	}
	return info, sameDigest("diff id", info.DiffID, s.want.DiffID)
}

// source reads until ctx ends or more comes than should; it takes the digest,
// and remembers what failed.
type source struct {
	ctx context.Context
	r   io.Reader
	sum hash.Hash
	n   int64
	max int64 // 0 or less: any
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	_, _ = s.sum.Write(p[:n]) // never fails
	s.n += int64(n)
	if s.max > 0 && s.n > s.max {
		err = moss.Errorf(moss.Invalid, "the layer is longer than the %d bytes expected", s.max)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// invalid says that the layer is to blame.
func invalid(err error) error {
	if _, classed := errors.AsType[*moss.Error](err); classed {
		return err
	}
	return &moss.Error{Class: moss.Invalid, Err: fmt.Errorf("the layer is damaged: %w", err)}
}
