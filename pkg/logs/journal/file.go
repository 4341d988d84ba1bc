package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

var le = binary.LittleEndian

// What a file may ask of its readers, and ours can.
const (
	withXZ      = 1 << 0
	withLZ4     = 1 << 1
	withKeys    = 1 << 2
	withZstd    = 1 << 3
	withCompact = 1 << 4
	readable    = withXZ | withLZ4 | withKeys | withZstd | withCompact
)

// The types of objects.
const (
	dataObject  = 1
	entryObject = 3
	arrayObject = 6
)

const (
	headerSize = 208 // of the oldest version
	objectHead = 16
	entryHead  = 64
	maxObject  = 64 << 20 // of a size that is believed
)

var errDamaged = errors.New("the journal file is damaged")

// File is a journal file. It may be written meanwhile.
type File struct {
	f        *os.File
	id       [16]byte
	SeqnumID [16]byte // the series that the sequence numbers are of
	compact  bool
	table    uint64 // the data's hash table
	buckets  uint64
	texts    map[uint64]string // of data by offset, of what is short
}

// Open opens a journal file. Errors: fs.ErrNotExist and fs.ErrPermission.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	j := &File{f: f, texts: map[uint64]string{}}
	if err := j.header(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return j, nil
}

// Close closes the file.
func (j *File) Close() error { return j.f.Close() }

func (j *File) header() error {
	b := make([]byte, headerSize)
	if err := j.read(b, 0); err != nil {
		return err
	}
	if string(b[:8]) != "LPKSHHRH" {
		return errDamaged
	}
	flags := le.Uint32(b[12:])
	if flags&^readable != 0 || flags&withKeys == 0 {
		return fmt.Errorf("the journal file is of a version that moss cannot read (flags %#x)", flags)
	}
	j.compact = flags&withCompact != 0
	copy(j.id[:], b[24:])
	copy(j.SeqnumID[:], b[72:])
	j.table, j.buckets = le.Uint64(b[104:]), le.Uint64(b[112:])/16
	return nil
}

// Head returns the sequence number and the time of the first entry; 0 for an
// empty file.
func (j *File) Head() (seqnum uint64, at time.Time, err error) {
	b := make([]byte, headerSize)
	err = j.read(b, 0)
	return le.Uint64(b[168:]), micros(le.Uint64(b[184:])), err
}

func micros(us uint64) time.Time { return time.UnixMicro(int64(us)).UTC() }

func (j *File) read(b []byte, at uint64) error {
	if at > 1<<62 {
		return errDamaged
	}
	if _, err := j.f.ReadAt(b, int64(at)); err != nil {
		if errors.Is(err, io.EOF) {
			return errDamaged
		}
		return err
	}
	return nil
}

// object reads an object of a type, all of it.
func (j *File) object(at uint64, kind byte) (flags byte, b []byte, err error) {
	var first [512]byte
	if at == 0 || at%8 != 0 || at > 1<<62 {
		return 0, nil, errDamaged
	}
	n, err := j.f.ReadAt(first[:], int64(at))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	if n < objectHead || first[0] != kind {
		return 0, nil, errDamaged
	}
	size := le.Uint64(first[8:])
	if size < objectHead || size > maxObject {
		return 0, nil, errDamaged
	}
	if size <= uint64(n) {
		return first[1], bytes.Clone(first[:size]), nil
	}
	if st, err := j.f.Stat(); err != nil || at+size > uint64(st.Size()) {
		return 0, nil, errors.Join(errDamaged, err)
	}
	b = make([]byte, size)
	copy(b, first[:n])
	return first[1], b, j.read(b[n:], at+uint64(n))
}

// dataHead is the length of a data object's head.
func (j *File) dataHead() int {
	if j.compact {
		return 72
	}
	return 64
}

// data returns a data object and its payload, NAME=value.
func (j *File) data(at uint64) (object []byte, payload []byte, err error) {
	flags, b, err := j.object(at, dataObject)
	if err != nil {
		return nil, nil, err
	}
	if len(b) < j.dataHead() {
		return nil, nil, errDamaged
	}
	payload, err = expand(flags, b[j.dataHead():])
	return b, payload, err
}

var zstdReader, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxObject))

func expand(flags byte, p []byte) ([]byte, error) {
	switch flags & 7 {
	case 0:
		return p, nil
	case 1:
		r, err := xz.NewReader(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, maxObject))
	case 2:
		if len(p) < 8 || le.Uint64(p) > maxObject {
			return nil, errDamaged
		}
		out := make([]byte, le.Uint64(p))
		n, err := lz4.UncompressBlock(p[8:], out)
		return out[:max(n, 0)], err
	case 4:
		return zstdReader.DecodeAll(p, nil)
	default:
		return nil, errDamaged
	}
}

// find returns the offset of the data that is exactly that; 0 where the file has none.
func (j *File) find(payload string) (uint64, error) {
	if j.buckets == 0 || j.table == 0 {
		return 0, nil
	}
	hash := sipHash(j.id, []byte(payload))
	var b [8]byte
	if err := j.read(b[:], j.table+hash%j.buckets*16); err != nil {
		return 0, err
	}
	at := le.Uint64(b[:])
	for range 1 << 14 { // a chain that is longer goes in a circle
		if at == 0 {
			return 0, nil
		}
		o, p, err := j.data(at)
		if err != nil {
			return 0, err
		}
		if string(p) == payload {
			return at, nil
		}
		at = le.Uint64(o[24:])
	}
	return 0, errDamaged
}
