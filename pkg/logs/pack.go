package logs

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// pack compresses rotated files, the oldest first, until none is left or ctx
// ends. What fails stays as it is: a plain file is a log too.
func (s *sink) pack(ctx context.Context) {
	for {
		s.mu.Lock()
		f, n, turn := s.plainFile()
		if f == nil || ctx.Err() != nil {
			s.packing = false
			s.mu.Unlock()
			if f != nil {
				_ = f.Close() // was only read
			}
			return
		}
		s.mu.Unlock()
		err := compressTo(ctx, s.path+unready, f)
		_ = f.Close() // was only read
		s.mu.Lock()
		n += s.turn - turn
		if err == nil && n < s.options.maxFiles {
			err = os.Rename(s.path+unready, numbered(s.path, n)+packed)
			if err == nil {
				err = os.Remove(numbered(s.path, n))
			}
		}
		_ = os.Remove(s.path + unready) // where it was too late or failed
		if err != nil {
			s.packing = false
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// plainFile opens the oldest file that is not compressed.
func (s *sink) plainFile() (f *os.File, n, turn int) {
	for n := s.options.maxFiles - 1; n > 0; n-- {
		if f, err := os.Open(numbered(s.path, n)); err == nil {
			return f, n, s.turn
		}
	}
	return nil, 0, 0
}

// compressTo writes a compressed copy with the time of the original.
func compressTo(ctx context.Context, path string, f *os.File) (err error) {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err == nil {
		_, err = io.Copy(z, reading{ctx, f})
		err = errors.Join(err, z.Close())
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = os.Chtimes(path, st.ModTime(), st.ModTime())
	}
	return err
}

// reading reads until ctx ends.
type reading struct {
	ctx context.Context
	r   io.Reader
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// unpack reads a compressed file from its beginning.
func unpack(f logFile) (io.Reader, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return gzip.NewReader(f.File)
}

// damaged says that a file was compressed wrongly: what can be read of it is.
func damaged(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.As(err, &corrupt)
}
