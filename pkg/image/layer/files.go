package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// file makes a regular file: a small one by the crew.
func (u *unpacker) file(h *tar.Header, d *dir, base string, m *meta) error {
	if isSparse(h) {
		return u.sparse(h, d, base, m)
	}
	if h.Size > bufferSize {
		return u.large(h, d, base, m)
	}
	j := job{dir: d, base: base, meta: m}
	if h.Size > 0 {
		j.buf = u.crew.buffer()
		j.n = int(h.Size)
		if _, err := io.ReadFull(u.tar, j.buf[:j.n]); err != nil {
			u.crew.giveBack(j.buf)
			return u.cut(err)
		}
		u.crc.Reset()
		_, _ = u.crc.Write(j.buf[:j.n]) // never fails
		if err := u.split.file(d.join(base), h.Size, u.crc.Sum(nil)); err != nil {
			return err
		}
	}
	return u.crew.give(j)
}

func (u *unpacker) cut(err error) error {
	if err == io.EOF { //nolint:errorlint // the end, and nothing that wraps it
		err = io.ErrUnexpectedEOF
	}
	return u.damage(err)
}

// large makes a file as it is read.
func (u *unpacker) large(h *tar.Header, d *dir, base string, m *meta) error {
	u.crc.Reset()
	err := u.stream(d, base, m, func(f *os.File, buf []byte) error {
		for {
			n, err := u.tar.Read(buf)
			_, _ = u.crc.Write(buf[:n]) // never fails
			if _, err := f.Write(buf[:n]); err != nil {
				return failed(d.join(base), err)
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return u.damage(err)
			}
		}
	})
	if err != nil {
		return err
	}
	return u.split.file(d.join(base), h.Size, u.crc.Sum(nil))
}

// sparse makes a file with holes. What the tar has of it is kept as it is: a
// file does not tell how its holes were written down.
func (u *unpacker) sparse(h *tar.Header, d *dir, base string, m *meta) error {
	if h.Size > maxSparse {
		return moss.Errorf(moss.Invalid, "%q would have %d bytes, mostly holes: %d are the limit", h.Name, h.Size, int64(maxSparse))
	}
	u.tree.set(d.join(base), isOther)
	return u.stream(d, base, m, func(f *os.File, _ []byte) error {
		size, err := u.recorded(func(b []byte, at int64) error {
			if allZero(b) {
				return nil
			}
			_, err := f.WriteAt(b, at)
			return err
		})
		if err == nil {
			err = f.Truncate(size)
		}
		if _, disk := errors.AsType[*fs.PathError](err); disk {
			err = failed(d.join(base), err)
		}
		return err
	})
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

var zeros [bufferSize]byte

func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// recorded reads contents to sink; the bytes that the tar has for them are kept
// as they are.
func (u *unpacker) recorded(sink func(b []byte, at int64) error) (size int64, err error) {
	buf := u.crew.buffer()
	defer u.crew.giveBack(buf)
	u.tape.on, u.tape.raw = true, u.tape.raw[:0]
	defer func() { u.tape.on = false }()
	for {
		n, err := u.tar.Read(buf[:])
		if err != nil && err != io.EOF {
			return size, u.damage(err)
		}
		if e := sink(buf[:n], size); e != nil {
			return size, e
		}
		size += int64(n)
		if len(u.tape.raw) > segmentLimit || err != nil {
			if e := u.split.segment(u.tape.raw); e != nil {
				return size, e
			}
			u.tape.raw = u.tape.raw[:0]
		}
		if err != nil {
			return size, nil
		}
	}
}

// stream makes a file whose contents write gives.
func (u *unpacker) stream(d *dir, base string, m *meta, write func(f *os.File, buf []byte) error) error {
	dfd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	fd, err := create(dfd, base, m)
	u.tree.release(d)
	if err != nil {
		return failed(d.join(base), err)
	}
	f := os.NewFile(uintptr(fd), base)
	buf := u.crew.buffer()
	defer u.crew.giveBack(buf)
	err = write(f, buf[:])
	if err == nil {
		err = u.crew.dress(fd, d, base, m)
	}
	if e := f.Close(); err == nil && e != nil {
		err = failed(d.join(base), e)
	}
	return err
}
