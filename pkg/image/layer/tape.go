package layer

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"strconv"

	"github.com/vbatts/tar-split/tar/storage"

	"github.com/moss-containers/moss/pkg/moss"
)

// A tar's bytes that are not in its files are kept for as long as the layer,
// and pass through memory when it is committed. Those of an honest tar are a
// kilobyte or two a file.
const (
	tapeFree     = 64 << 20
	tapePerFile  = 4 << 10
	tapeMax      = 2 << 30
	segmentLimit = 1 << 20
	rawLimit     = 8 << 20 // of one entry's headers
)

// tape reads a tar and keeps, while it is on, what passes.
type tape struct {
	r   io.Reader
	on  bool
	raw []byte
}

func (t *tape) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if t.on {
		t.raw = append(t.raw, p[:n]...)
		if len(t.raw) > rawLimit {
			return n, moss.Errorf(moss.Invalid, "the layer has a header of more than %d bytes", rawLimit)
		}
	}
	return n, err
}

// split writes, in tar-split's format, what is needed beside the files to put
// the tar together again: all bytes that are not in a file, and the names and
// checksums of files that are not empty. Empty ones need no mention, so that a
// name may come twice.
type split struct {
	f     *os.File
	w     *bufio.Writer
	line  []byte
	pos   int
	files int
	raw   int64
}

func newSplit(dir string) (*split, error) {
	f, err := tempFile(dir)
	if err != nil {
		return nil, err
	}
	return &split{f: f, w: bufio.NewWriterSize(f, 64<<10)}, nil
}

// segment writes bytes of the tar.
func (s *split) segment(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), segmentLimit)
		s.raw += int64(n)
		if s.raw > tapeMax || s.raw > tapeFree+tapePerFile*int64(s.files) {
			return moss.Errorf(moss.Invalid, "the layer has %d bytes of headers and padding for %d files: this is no file system", s.raw, s.files)
		}
		s.line = append(s.line[:0], `{"type":2,"payload":"`...)
		s.line = base64.StdEncoding.AppendEncode(s.line, b[:n])
		if err := s.end(); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// file writes that a file's contents come here.
func (s *split) file(name string, size int64, crc []byte) error {
	s.line = append(s.line[:0], `{"type":1,`...)
	if plainASCII(name) {
		s.line = append(append(append(s.line, `"name":"`...), name...), '"')
	} else {
		var e storage.Entry
		e.SetName(name)
		key, val := `"name":`, any(e.Name)
		if e.NameRaw != nil {
			key, val = `"name_raw":`, e.NameRaw
		}
		b, err := json.Marshal(val)
		if err != nil {
			return err
		}
		s.line = append(append(s.line, key...), b...)
	}
	s.line = strconv.AppendInt(append(s.line, `,"size":`...), size, 10)
	s.line = base64.StdEncoding.AppendEncode(append(s.line, `,"payload":"`...), crc)
	return s.end()
}

func (s *split) end() error {
	s.line = strconv.AppendInt(append(s.line, `","position":`...), int64(s.pos), 10)
	s.line = append(s.line, "}\n"...)
	s.pos++
	_, err := s.w.Write(s.line)
	return err
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
