package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containers/image/v5/pkg/compression"

	"github.com/moss-containers/moss/pkg/moss"
)

// spool writes what r says, decompressed, to a file. A slow client waits here,
// where no lock is held. The caller closes and removes the file.
func (s *Store) spool(ctx context.Context, r io.Reader) (_ *os.File, err error) {
	f, err := os.CreateTemp(s.tmp, "spool-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(f))
		}
	}()
	src := &source{ctx: ctx, r: r}
	if err := decompress(f, src); err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case src.err != nil: // the client's stream broke, not its contents
			return nil, fmt.Errorf("reading the archive: %w", src.err)
		}
		return nil, broken(err)
	}
	if src.n == 0 {
		return nil, moss.Errorf(moss.Invalid, "the archive is empty")
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

func decompress(w io.Writer, r io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil { // a decoder met what its author did not think of
			err = fmt.Errorf("decompressing: %v", p)
		}
	}()
	plain, _, err := compression.AutoDecompress(r)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, plain, make([]byte, 256<<10))
	return errors.Join(err, plain.Close())
}

// source reads until ctx ends, and remembers how much came and what failed.
type source struct {
	ctx context.Context
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func discard(f *os.File) error {
	err := f.Close()
	if rm := os.Remove(f.Name()); !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

// broken gives an error met while reading an archive its class: the archive is
// to blame, unless the machine is.
func broken(err error) error {
	if err == nil {
		return nil
	}
	if _, classed := errors.AsType[*moss.Error](err); classed || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, machine := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EACCES} {
		// Layers are unpacked in another process, of whose error the text is left.
		if errors.Is(err, machine) || strings.Contains(err.Error(), machine.Error()) {
			return err
		}
	}
	if lost, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(lost, fs.ErrNotExist) {
		err = fmt.Errorf("the archive lacks %s", filepath.Base(lost.Path))
	}
	return &moss.Error{Class: moss.Invalid, Err: err}
}
