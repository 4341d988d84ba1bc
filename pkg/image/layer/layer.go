// Package layer puts layers of images into the store. A layer's stream is read
// once: on its way it is checked against its digest, decompressed, checked
// against its diff id, taken down for an exact copy of the tar later, and
// unpacked to files in this process, while no lock of the store is held. What
// is unpacked is then committed under the layer's chain id by a rename, or
// discarded.
//
// Archives are hostile until shown otherwise: no name in them, no link and no
// claim about a size reaches anything outside the directory that is unpacked to.
package layer

import (
	"encoding/json"
	"log/slog"
	"os"
	"sync"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Options say what a Store needs beside the store.
type Options struct {
	TempDir string // on a disk, for drivers that cannot unpack beside their layers; "" is the system's
	Log     *slog.Logger
}

// Store stages and commits layers. It is safe for concurrent use.
type Store struct {
	store storage.Store
	tmp   string
	log   *slog.Logger
	turn  sync.Mutex // one commit at a time: an id must not be committed twice
}

// New returns a Store over store.
func New(store storage.Store, o Options) *Store {
	s := &Store{store: store, tmp: o.TempDir, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.tmp == "" {
		s.tmp = os.TempDir()
	}
	return s
}

// Expect is what a layer must be. Empty fields are not checked.
type Expect struct {
	Digest digest.Digest // of the stream as it comes
	DiffID digest.Digest // of the tar
	Size   int64         // of the stream as it comes, -1 or 0 unknown
}

// Info is what a layer turned out to be.
type Info struct {
	DiffID     digest.Digest // of the tar
	Digest     digest.Digest // of the stream as it came
	Size       int64         // of the tar
	Compressed int64         // of the stream as it came; 0 where a layer in the store does not tell
	Skipped    []string      // what a user namespace cannot make: device nodes, some extended attributes
}

// ChainID is the id of the layer that these diff ids make, from the lowest: the
// OCI chain id in hex, without "sha256:".
func ChainID(diffIDs []digest.Digest) string {
	if len(diffIDs) == 0 {
		return ""
	}
	return identity.ChainID(diffIDs).Encoded()
}

// Under is the chain id of a layer on that parent ("" for none), whose id is
// its chain's; "" for a diff id that is none, as of layers that others made.
func Under(parent string, diff digest.Digest) string {
	if diff.Validate() != nil {
		return ""
	}
	if parent == "" {
		return diff.Encoded()
	}
	return ChainID([]digest.Digest{digest.NewDigestFromEncoded(digest.SHA256, parent), diff})
}

// Has tells of a committed layer.
func (s *Store) Has(id string) (Info, bool) {
	l, err := s.store.Layer(id)
	if err != nil {
		return Info{}, false
	}
	info := Info{DiffID: l.UncompressedDigest, Digest: l.CompressedDigest, Size: l.UncompressedSize, Compressed: l.CompressedSize}
	var m metadata
	// Layers that others made have no metadata, or theirs.
	if json.Unmarshal([]byte(l.Metadata), &m) == nil && m.Compressed > 0 {
		info.Compressed, info.Skipped = m.Compressed, m.Skipped
	}
	return info, true
}

// metadata is kept with a layer: the store itself has no place for it.
type metadata struct {
	Compressed int64    `json:"compressed-size"`
	Skipped    []string `json:"skipped,omitempty"`
}
