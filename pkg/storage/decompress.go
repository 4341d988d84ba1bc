package storage

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxWindow bounds the memory of a zstd decoder, as the zstd tool does.
const maxWindow = 128 << 20

// decompress reads a stream in any of docker's compressions, or none. free is
// called when nothing is read any more.
func decompress(r io.Reader) (plain io.Reader, free func(), err error) {
	b := bufio.NewReaderSize(r, tarBuffer)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) { // a tar may be empty
		return nil, nil, err
	}
	free = func() {}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 0x08}):
		plain, err = gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("BZh")):
		plain, err = bzip2.NewReader(b), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		plain, err = xz.ReaderConfig{SingleStream: false, DictCap: 8 << 20}.NewReader(b)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			plain, free = d, d.Close
		}
	default:
		return b, free, nil
	}
	if err != nil {
		return nil, nil, moss.Errorf(moss.Invalid, "the archive is damaged: %w", err)
	}
	return plain, free, nil
}
