package layer

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"

	"github.com/moss-containers/moss/pkg/moss"
)

// Staged is a layer that is unpacked and not yet in the store.
type Staged struct {
	store *Store
	info  Info
	out   *graphdriver.DriverWithDifferOutput // where the driver unpacks beside its layers
	spool *os.File                            // the tar, where it does not; has no name
	done  bool
}

// Stage reads one layer (plain tar, gzip, zstd, bzip2, xz; detected) from r to
// its end and unpacks it beside the store's layers, holding no lock of the
// store. The result is committed or discarded. ctx ends it at r's next read.
//
// What is wrong with the stream itself is moss.Invalid; an error of r comes back
// as it is.
func (s *Store) Stage(ctx context.Context, r io.Reader, want Expect) (*Staged, error) {
	staged, err := s.stageUnpacked(ctx, r, want)
	if errors.Is(err, storage.ErrNotSupported) { // vfs; nothing was read
		return s.stageSpooled(ctx, r, want)
	}
	return staged, err
}

// Info tells what the layer turned out to be.
func (g *Staged) Info() Info { return g.info }

// Commit makes the layer, with that parent ("" for none), and returns its chain
// id. When it is there already, what is staged is discarded.
func (g *Staged) Commit(parent string) (id string, err error) {
	id = Under(parent, g.info.DiffID)
	defer func() { err = moss.Wrap(err, "store the layer", id) }()
	if g.done {
		return id, errors.New("it is committed or discarded")
	}
	s := g.store
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.store.Exists(id) {
		return id, g.Discard()
	}
	if g.spool != nil {
		return id, g.commitSpooled(id, parent)
	}
	return id, g.commitUnpacked(id, parent)
}

// Discard removes what is staged. After Commit it does nothing.
func (g *Staged) Discard() error {
	if g.done {
		return nil
	}
	if g.spool == nil {
		return g.discardUnpacked()
	}
	g.done = true
	return g.spool.Close()
}

// stageSpooled keeps the tar for Commit.
func (s *Store) stageSpooled(ctx context.Context, r io.Reader, want Expect) (_ *Staged, err error) {
	f, err := tempFile(s.tmp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	in := openStream(ctx, r, want)
	defer func() { err = in.close(err) }()
	if _, err := io.Copy(f, in); err != nil {
		return nil, err
	}
	info, err := in.check()
	if err != nil {
		return nil, err
	}
	return &Staged{store: s, info: info, spool: f}, nil
}

func (g *Staged) commitSpooled(id, parent string) error {
	g.done = true
	defer func() { _ = g.spool.Close() }() // has no name: nothing is lost
	if _, err := g.spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, _, err := g.store.store.PutLayer(id, parent, nil, "", false, &storage.LayerOptions{
		OriginalDigest: g.info.Digest, OriginalSize: &g.info.Compressed, UncompressedDigest: g.info.DiffID,
	}, g.spool)
	if errors.Is(err, storage.ErrDuplicateID) {
		return nil
	}
	return err
}
