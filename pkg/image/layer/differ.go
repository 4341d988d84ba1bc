package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containers/storage"
	graphdriver "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// differ unpacks a layer's stream where the driver says.
type differ struct {
	in   *stream
	info Info
}

// ApplyDiff is called with no lock held.
func (d *differ) ApplyDiff(dest string, o *archive.TarOptions, do *graphdriver.DifferOptions) (out graphdriver.DriverWithDifferOutput, err error) {
	if len(o.UIDMaps) > 0 || len(o.GIDMaps) > 0 || o.ForceMask != nil || o.IgnoreChownErrors || do.Format != graphdriver.DifferOutputFormatDir {
		return out, moss.Errorf(moss.NotImplemented, "layers are unpacked as they are: the storage options force_mask, ignore_chown_errors, use_composefs and id maps are for others")
	}
	u, err := unpack(d.in, dest, o.WhiteoutFormat == archive.AUFSWhiteoutFormat)
	if err != nil {
		return out, err
	}
	if d.info, err = d.in.check(); err != nil {
		return out, errors.Join(err, u.split.f.Close())
	}
	d.info.Skipped = u.skipped
	meta, err := json.Marshal(metadata{Compressed: d.info.Compressed, Skipped: d.info.Skipped})
	if err != nil {
		return out, errors.Join(err, u.split.f.Close())
	}
	mode := fs.FileMode(rootMode)
	return graphdriver.DriverWithDifferOutput{
		Differ: d, Size: d.info.Size, UIDs: sorted(u.ids.uids), GIDs: sorted(u.ids.gids),
		UncompressedDigest: d.info.DiffID, CompressedDigest: d.info.Digest,
		Metadata: string(meta), TarSplit: u.split.f, RootDirMode: &mode,
	}, nil
}

// Close is the interface's: the stream is closed by who opened it.
func (d *differ) Close() error { return nil }

// stageUnpacked has the driver make a place beside its layers, and fills it.
func (s *Store) stageUnpacked(ctx context.Context, r io.Reader, want Expect) (_ *Staged, err error) {
	d := &differ{in: openStream(ctx, r, want)}
	defer func() { err = d.in.close(err) }()
	out, err := s.store.PrepareStagedLayer(nil, d)
	if err != nil {
		if out != nil && out.Target != "" {
			// The driver has let go of it.
			err = errors.Join(err, os.RemoveAll(filepath.Dir(out.Target)))
		}
		return nil, err
	}
	return &Staged{store: s, info: d.info, out: out}, nil
}

func (g *Staged) commitUnpacked(id, parent string) error {
	_, err := g.store.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID: id, ParentLayer: parent, LayerOptions: &storage.LayerOptions{}, DiffOutput: g.out,
	})
	if err != nil {
		return errors.Join(err, g.discardUnpacked())
	}
	g.done = true
	return os.RemoveAll(filepath.Dir(g.out.Target)) // the empty directory around it
}

func (g *Staged) discardUnpacked() error {
	g.done = true
	// It may be many files: not under the store's lock.
	err := os.RemoveAll(g.out.Target)
	return errors.Join(err, g.store.store.CleanupStagedLayer(g.out))
}

// explain gives an error in unpacking its class and, where the disk is to
// blame, its name.
func (u *unpacker) explain(err error) error {
	if _, classed := errors.AsType[*moss.Error](err); classed {
		return err
	}
	if _, making := errors.AsType[*makeError](err); !making {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("writing %w (the disk that holds %s)", err, u.where)
	}
	for _, name := range []unix.Errno{unix.ENAMETOOLONG, unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.EEXIST, unix.EMLINK, unix.EFBIG, unix.EINVAL} {
		if errors.Is(err, name) {
			return moss.Errorf(moss.Invalid, "the layer has what cannot be made: %w", err)
		}
	}
	return fmt.Errorf("writing %w", err)
}
