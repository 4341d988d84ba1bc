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

// maxWindow bounds the memory of a zstd or xz decoder, as the zstd tool does.
const maxWindow = 128 << 20

// stream is a layer's tar, read from the layer's stream.
type stream struct {
	want Expect
	dec  *decoder
	tar  *ahead
	sum  hash.Hash
	n    int64
}

func openStream(ctx context.Context, r io.Reader, want Expect) *stream {
	d := &decoder{src: &source{ctx: ctx, r: r, sum: sha256.New(), max: want.Size}, free: func() {}}
	d.buf = bufio.NewReaderSize(d.src, 64<<10)
	return &stream{want: want, dec: d, sum: sha256.New()}
}

// Read gives the tar. Errors of the contents are moss.Invalid.
func (s *stream) Read(p []byte) (int, error) {
	if s.tar == nil { // not before: it may have to be read in another way
		s.tar = readAhead(s.dec)
	}
	n, err := s.tar.Read(p)
	_, _ = s.sum.Write(p[:n]) // never fails
	s.n += int64(n)
	return n, err
}

// close ends the reading. Nothing reads the layer's stream afterwards. It
// returns err, or what the reader failed with: the rest followed from that.
func (s *stream) close(err error) error {
	if s.tar != nil {
		s.tar.stop()
	}
	s.dec.free()
	if err != nil && s.dec.src.err != nil {
		return s.dec.src.err
	}
	return err
}

// check says what the stream was, after its end.
func (s *stream) check() (Info, error) {
	src := s.dec.src
	info := Info{
		DiffID: digest.NewDigest(digest.SHA256, s.sum), Size: s.n,
		Digest: digest.NewDigest(digest.SHA256, src.sum), Compressed: src.n,
	}
	if s.want.Size > 0 && src.n != s.want.Size {
		return info, moss.Errorf(moss.Invalid, "the layer has %d bytes where %d are expected", src.n, s.want.Size)
	}
	if err := sameDigest("digest", info.Digest, s.want.Digest); err != nil {
		return info, err
	}
	return info, sameDigest("diff id", info.DiffID, s.want.DiffID)
}

// sameDigest says whether got is the wanted one, where one is wanted.
func sameDigest(what string, got, want digest.Digest) error {
	if want == "" || got == want {
		return nil
	}
	return moss.Errorf(moss.Invalid, "the layer's %s is %s where %s is expected", what, got, want)
}

// decoder finds out how a stream is compressed, and decompresses it.
type decoder struct {
	src   *source
	buf   *bufio.Reader
	plain io.Reader
	free  func()
}

func (d *decoder) Read(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil { // a library met what its author did not think of
			n, err = 0, fmt.Errorf("decompressing: %v", v)
		}
		if err != nil && err != io.EOF { //nolint:errorlint // the end, and nothing that wraps it
			err = d.blame(err)
		}
	}()
	if d.plain == nil {
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	n, err = d.plain.Read(p)
	if err == io.EOF { //nolint:errorlint // as above
		// What a library leaves unread is part of the digest.
		if _, rest := io.Copy(io.Discard, d.buf); rest != nil {
			err = rest
		}
	}
	return n, err
}

// blame tells the reader's errors from the contents'.
func (d *decoder) blame(err error) error {
	if d.src.err != nil {
		return d.src.err
	}
	return invalid(err)
}

func (d *decoder) open() error {
	head, err := d.buf.Peek(32)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) == 0 {
		return moss.Errorf(moss.Invalid, "the layer is empty")
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		d.plain, err = gzip.NewReader(d.buf)
	case isZstd(head):
		var z *zstd.Decoder
		z, err = zstd.NewReader(d.buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			d.plain, d.free = z, z.Close
		}
	case bytes.HasPrefix(head, []byte("BZh")):
		d.plain, err = bzip2.NewReader(d.buf), nil
	case bytes.HasPrefix(head, []byte(xzMagic)):
		if err = checkXZ(head); err == nil {
			d.plain, err = xz.NewReader(d.buf)
		}
	default:
		d.plain, err = d.buf, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// isZstd knows a frame, and one to be skipped.
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(head) > 3 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

const xzMagic = "\xfd7zXZ\x00"

// checkXZ looks at the dictionary that the first block asks for: the library
// takes as much memory as any number there.
func checkXZ(head []byte) error {
	const streamHeader = 12
	block := head[min(len(head), streamHeader):]
	if len(block) < 12 || block[0] == 0 { // no block at all
		return nil
	}
	at := 2 // after the sizes that the flags tell of
	for _, has := range []byte{0x40, 0x80} {
		if block[1]&has == 0 {
			continue
		}
		for at < len(block) && block[at]&0x80 != 0 {
			at++
		}
		at++
	}
	if at+2 >= len(block) || block[at] != 0x21 { // not LZMA2 first: the library refuses it
		return nil
	}
	bits := block[at+2]
	if size := int64(2|bits&1) << (bits/2 + 11); bits > 40 || size > maxWindow {
		return fmt.Errorf("it asks for %d bytes of memory to decompress; %d are the limit", size, maxWindow)
	}
	return nil
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
	if s.err != nil {
		return 0, s.err
	}
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
	if err != nil && err != io.EOF { //nolint:errorlint // the end, and nothing that wraps it
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
