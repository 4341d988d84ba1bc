package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	maxJSON    = 8 << 20 // bytes of a configuration, a manifest or an index
	maxMembers = 200_000 // files of an archive
	maxLinks   = 8       // from one member to the next
)

// imageArchive is a tar of images in a file. What is in it is found by its headers;
// the names in it are looked up in memory and never become names of ours.
type imageArchive struct {
	r       io.ReaderAt
	members map[string]member // by clean name
}

// member is one file of an archive.
type member struct {
	at, size int64
	link     string // clean name of the member it stands for; "" for a file
	twice    bool   // there are several of that name
}

// seekable is what an archive is read from.
type seekable interface {
	io.ReadSeeker
	io.ReaderAt
}

// scan reads the headers of a whole tar, so that one cut short is found before
// anything is made of it.
func scan(f seekable) (*imageArchive, error) {
	a := &imageArchive{r: f, members: map[string]member{}}
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			if n == 0 {
				return nil, fmt.Errorf("this is not an image archive: %w", err)
			}
			return nil, fmt.Errorf("the archive is damaged after %d files: %w", n, err)
		}
		if n == maxMembers {
			return nil, fmt.Errorf("the archive has more than %d files", maxMembers)
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := a.add(h, at); err != nil {
			return nil, err
		}
	}
}

// add notes one member, whose contents begin at at.
func (a *imageArchive) add(h *tar.Header, at int64) error {
	name, err := insideName(h.Name)
	if err != nil {
		return err
	}
	m := member{at: at, size: h.Size}
	switch h.Typeflag {
	case tar.TypeReg:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") { // its contents are not what follows
				return fmt.Errorf("%s is a sparse file, which an image archive cannot have", h.Name)
			}
		}
	case tar.TypeSymlink: // docker save made them for a layer that comes twice
		m.link, err = insideName(path.Join(path.Dir(name), h.Linkname))
		if path.IsAbs(h.Linkname) {
			err = outside(h.Linkname)
		}
	case tar.TypeLink:
		m.link, err = insideName(h.Linkname)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	_, m.twice = a.members[name]
	a.members[name] = m
	return nil
}

func insideName(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", outside(name)
	}
	return clean, nil
}

func outside(name string) error {
	return fmt.Errorf("the archive names %q, which is outside of it", name)
}

// lacksError names a member that is not there.
type lacksError string

func (e lacksError) Error() string        { return "the archive lacks " + string(e) }
func (e lacksError) Is(target error) bool { return target == fs.ErrNotExist }

// open finds a member by name, through links.
func (a *imageArchive) open(name string) (*io.SectionReader, error) {
	at, err := insideName(name)
	if err != nil {
		return nil, err
	}
	for range maxLinks {
		m, ok := a.members[at]
		switch {
		case !ok:
			return nil, lacksError(name)
		case m.twice && !isBlob(at): // a blob's digest says which it is
			return nil, fmt.Errorf("the archive has %s twice", at)
		case m.link == "":
			return io.NewSectionReader(a.r, m.at, m.size), nil
		}
		at = m.link
	}
	return nil, fmt.Errorf("the links from %s do not end", name)
}

// read returns the contents of a small member.
func (a *imageArchive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxJSON {
		return nil, fmt.Errorf("%s is too large: %d bytes", name, r.Size())
	}
	b := make([]byte, r.Size())
	_, err = io.ReadFull(r, b)
	return b, err
}

func (a *imageArchive) has(name string) bool {
	_, err := a.open(name)
	return err == nil
}

// isLayout tells whether there is an OCI layout.
func (a *imageArchive) isLayout() bool { return a.has(imgspec.ImageLayoutFile) }

// openBlob finds a blob of an OCI layout, without reading it.
func (a *imageArchive) openBlob(d imgspec.Descriptor) (*io.SectionReader, error) {
	name, err := blobName(d.Digest)
	if err != nil {
		return nil, err
	}
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() != d.Size {
		return nil, fmt.Errorf("%s has %d bytes where %d are announced", name, r.Size(), d.Size)
	}
	return r, nil
}

// blob returns a small blob, checked.
func (a *imageArchive) blob(d imgspec.Descriptor) ([]byte, error) {
	if _, err := a.openBlob(d); err != nil {
		return nil, err
	}
	b, err := a.read(path.Join(imgspec.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err == nil && d.Digest.Algorithm().FromBytes(b) != d.Digest {
		err = fmt.Errorf("blob %s has another digest", d.Digest)
	}
	return b, err
}

func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", d, err)
	}
	return path.Join(imgspec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// isBlob tells whether a name is a blob's in an OCI layout.
func isBlob(name string) bool {
	_, ok := digestOfName(name)
	return ok
}

func digestOfName(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, imgspec.ImageBlobsDir+"/")
	if !ok {
		return "", false
	}
	alg, hex, _ := strings.Cut(rest, "/")
	d := digest.Digest(alg + ":" + hex)
	return d, d.Validate() == nil
}
