package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/gzip"
	digest "github.com/opencontainers/go-digest"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// layerTar writes a layer as the tar it was, put together from what the store
// kept of it and the layer's files. It takes no lock of the store, which a slow
// reader would keep: the caller holds the layer. What it writes is checked
// against want, unless that is empty.
func (s *Store) layerTar(ctx context.Context, id string, want digest.Digest, w io.Writer) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("layer %.12s: %w", id, err)
		}
	}()
	driver := s.store.GraphDriverName()
	kept, err := os.Open(filepath.Join(s.store.GraphRoot(), driver+"-layers", id+".tar-split.gz"))
	if err != nil {
		return err
	}
	defer kept.Close()
	plain, err := gzip.NewReader(bufio.NewReaderSize(kept, 64<<10))
	if err != nil {
		return fmt.Errorf("what is kept of the tar's headers: %w", err)
	}
	dir := filepath.Join(s.store.GraphRoot(), driver, id, "diff")
	if driver == "vfs" {
		dir = filepath.Join(s.store.GraphRoot(), driver, "dir", id)
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	j := &joiner{ctx: ctx, root: root, w: w, sum: sha256.New(), buf: make([]byte, 256<<10)}
	if err := j.join(plain); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, j.sum); want != "" && got != want {
		return fmt.Errorf("%w: the digest is %s where %s is expected", errChanged, got, want)
	}
	return nil
}

var errChanged = errors.New("its files were changed")

// joiner puts a tar together.
type joiner struct {
	ctx  context.Context
	root *os.File // of the layer's files
	w    io.Writer
	sum  hash.Hash

	buf   []byte // of a file
	bytes []byte // of a segment
}

func (j *joiner) join(kept io.Reader) error {
	r := bufio.NewReaderSize(kept, 64<<10)
	var long []byte // a line that the buffer is too small for
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if errors.Is(err, io.EOF) && len(line)+len(long) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("what is kept of the tar's headers: %w", err)
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = long[:0]
		}
		if err := j.entry(line); err != nil {
			return err
		}
	}
}

// entry writes what one line stands for: bytes, or a file.
func (j *joiner) entry(line []byte) error {
	e, ok := j.quickEntry(line)
	if !ok {
		e = tarsplit.Entry{}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("what is kept of the tar's headers: %w", err)
		}
	}
	switch {
	case e.Type == tarsplit.SegmentType:
		return j.write(e.Payload)
	case e.Type == tarsplit.FileType && e.Size > 0:
		return j.file(e.GetName(), e.Size)
	}
	return nil
}

// quickEntry reads a line that looks as lines do: {"type":1,"name":"…","size":…,"payload":"…","position":…}
// with the payload alone in a segment. Decoding JSON would take longer than all the rest.
func (j *joiner) quickEntry(line []byte) (e tarsplit.Entry, ok bool) {
	const payload = `"payload":"`
	if rest, ok := bytes.CutPrefix(line, []byte(`{"type":2,`+payload)); ok {
		text, rest, ok := bytes.Cut(rest, []byte(`"`))
		if !ok || !bytes.HasPrefix(rest, []byte(`,"position":`)) {
			return e, false
		}
		var err error
		e.Type = tarsplit.SegmentType
		j.bytes, err = base64.StdEncoding.AppendDecode(j.bytes[:0], text)
		e.Payload = j.bytes
		return e, err == nil
	}
	rest, ok := bytes.CutPrefix(line, []byte(`{"type":1,"name":"`))
	if !ok {
		return e, false
	}
	name, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || bytes.IndexByte(name, '\\') >= 0 {
		return e, false
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`,"size":`))
	if !ok {
		return e, false
	}
	number, _, ok := bytes.Cut(rest, []byte(`,`+payload))
	size, err := strconv.ParseInt(string(number), 10, 64)
	e.Type, e.Size = tarsplit.FileType, size
	e.SetName(string(name))
	return e, ok && err == nil
}

func (j *joiner) write(b []byte) error {
	_, _ = j.sum.Write(b) // never fails
	_, err := j.w.Write(b)
	return err
}

// file writes a file's contents. Links in its path lead nowhere out of the layer.
func (j *joiner) file(name string, size int64) (err error) {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	fd, err := unix.Openat2(int(j.root.Fd()), name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() {
		if cl := unix.Close(fd); err == nil {
			err = cl
		}
	}()
	for size > 0 {
		n, err := unix.Read(fd, j.buf[:min(size, int64(len(j.buf)))])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return fmt.Errorf("%s was made shorter", name)
		}
		if err := j.ctx.Err(); err != nil {
			return err
		}
		if err := j.write(j.buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}
