// Package storage keeps the containers' root file systems. It is the door to
// github.com/containers/storage: it chooses the driver, opens the store, and
// mounts layers in the mount namespace that the process is in. All containers
// share the engine's user namespace, so no ids are shifted.
//
// A fuse-overlayfs mount is served by a process that the store starts and that
// must live as long as the mount does; see Options.MountGroup.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	"github.com/containers/storage/pkg/unshare"
	"github.com/containers/storage/types"

	"github.com/moss-containers/moss/pkg/moss"
)

// Init must be the first call of main, and of a TestMain: the store unpacks
// layers in a fresh process of the same program, chrooted. When it returns
// true, this was such a process, and main must return.
func Init() bool {
	// Such a process sees no /proc and takes itself for the machine's root, whose
	// attributes it may not set: it is told.
	if unshare.IsRootless() && os.Getenv(unshare.UsernsEnvName) == "" {
		_ = os.Setenv(unshare.UsernsEnvName, "done") // never fails for such a name
	}
	return reexec.Init()
}

// Options say where the store is.
type Options struct {
	GraphRoot string // layers and images, on disk
	RunRoot   string // what a reboot may lose
	Driver    string // "" chooses the best that works: overlay, fuse-overlayfs, vfs
	// DriverOptions are docker's storage-opts: overlay.mountopt and overlay.mount_program.
	DriverOptions []string
	// MountGroup is the directory of the cgroup for the processes that serve the mounts of
	// fuse-overlayfs. "" leaves them in the daemon's: nothing may end it with the daemon then.
	MountGroup string
	// Build is of this program; see [AsLeft].
	Build string
	Log   *slog.Logger
}

// Storage is an open store. It is safe for concurrent use.
type Storage struct {
	store storage.Store
	// turn is taken for each change: the store would make them wait for each
	// other all the same, but its readers write a flag at the same time.
	turn    sync.Mutex
	choice  choice
	sizes   sizes
	mounts  mounts
	servers servers
	leaving leaving
	scrap   *scrap
	lists   *lists
	// volatile are the layers that the store does not know.
	volatile volatiles

	unsynced unsynced
	report   report
	options  Options
	log      *slog.Logger
}

// Open chooses the driver and opens the store, finishing what an earlier
// process left half done. The store's own configuration files are not read.
func Open(ctx context.Context, o Options) (*Storage, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{o.GraphRoot, o.RunRoot} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, moss.Wrap(err, "open storage at", dir)
		}
	}
	if err := o.forgetLeft(); err != nil {
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	if err := sweepProbes(o.GraphRoot, filepath.Join(o.RunRoot, "swept")); err != nil {
		log.WarnContext(ctx, "a probe of an earlier run stays", "error", err)
	}
	t, err := parseTuning(o.DriverOptions)
	if err != nil {
		return nil, err
	}
	c, err := choose(ctx, o.GraphRoot, o.Driver, t, machine{})
	if err != nil {
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	if err := ignoreConfigFiles(o.RunRoot, c.driver); err != nil {
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	l := &lists{root: o.GraphRoot, run: o.RunRoot, driver: c.driver, log: log, now: time.Now()}
	if err := l.repair(); err != nil {
		return nil, moss.Wrap(fmt.Errorf("repairing its lists: %w", err), "open storage at", o.GraphRoot)
	}
	if err := l.unmountHalfMade(); err != nil {
		log.WarnContext(ctx, "some remains of an earlier run stay mounted", "error", err)
	}
	if err := os.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes"); err != nil { // see CreateMapped; what is on disk is the same everywhere
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	if err := linkLocks(o.GraphRoot, filepath.Join(o.RunRoot, "locks"), c.driver); err != nil {
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	store, err := storage.GetStore(types.StoreOptions{
		GraphRoot: o.GraphRoot, RunRoot: o.RunRoot, GraphDriverName: c.driver, GraphDriverOptions: c.options(),
	})
	if err != nil {
		return nil, moss.Wrap(fmt.Errorf("driver %s: %w", c.name(), err), "open storage at", o.GraphRoot)
	}
	// What a process killed in the middle left without a record.
	if len(l.lost) > 0 {
		log.WarnContext(ctx, "what the new lists do not name is kept on disk until the next start")
	} else if err := store.GarbageCollect(); err != nil {
		log.WarnContext(ctx, "storage keeps some remains of an earlier run", "error", err)
	}
	log.DebugContext(ctx, "storage is open", "driver", c.name(), "why", c.why, "root", o.GraphRoot)
	s := &Storage{store: store, choice: c, lists: l, options: o, log: log}
	s.servers.group = o.MountGroup
	s.volatile.disk, s.volatile.run = filepath.Join(o.GraphRoot, "volatile"), filepath.Join(o.RunRoot, "volatile")
	if err := s.volatile.load(); err != nil {
		store.Free()
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	s.unsynced.name = filepath.Join(o.GraphRoot, "unsynced")
	s.unsynced.fail = func(err error) { log.Warn("the store could not be synced", "error", err) }
	if err := s.recover(ctx, l.lost); err != nil {
		store.Free()
		return nil, moss.Wrap(fmt.Errorf("checking it: %w", err), "open storage at", o.GraphRoot)
	}
	if err := s.mounts.open(s); err != nil {
		log.WarnContext(ctx, "what is mounted is not known", "error", err)
	}
	if err := l.keepGood(); err != nil {
		log.WarnContext(ctx, "the store's lists could not be copied", "error", err)
	}
	if s.scrap, err = openScrap(filepath.Join(o.GraphRoot, "scrap"), log); err != nil {
		store.Free()
		return nil, moss.Wrap(err, "open storage at", o.GraphRoot)
	}
	if err := s.volatile.sweep(s.scrap); err != nil {
		log.WarnContext(ctx, "the remains of a container stay until the next start", "error", err)
	}
	return s, nil
}

// ignoreConfigFiles keeps the library from the storage.conf of the user and of
// the machine, one of which it reads once a process however it is opened: it
// gets one of ours.
func ignoreConfigFiles(runRoot, driver string) (err error) {
	const key = "CONTAINERS_STORAGE_CONF"
	name := filepath.Join(runRoot, "storage.conf")
	if err := os.WriteFile(name, []byte("[storage]\ndriver = \""+driver+"\"\n"), 0o600); err != nil {
		return err
	}
	old, had := os.LookupEnv(key)
	if err := os.Setenv(key, name); err != nil {
		return err
	}
	defer func() {
		if had {
			err = errors.Join(err, os.Setenv(key, old))
		} else {
			err = errors.Join(err, os.Unsetenv(key))
		}
	}()
	_, err = types.Options()
	return err
}

// Store is the opened store, for the package that keeps images in it.
func (s *Storage) Store() storage.Store { return s.store }

// Driver is the name of the store's driver.
func (s *Storage) Driver() string { return s.choice.driver }

// MountProgram is the program that mounts root file systems, "" where the
// kernel does.
func (s *Storage) MountProgram() string { return s.choice.mountProgram }

// Busy says whether the files of removed containers are being deleted.
func (s *Storage) Busy() bool { return s.scrap.working() }

// Close lets go of the store. Mounts stay: containers may run on them.
func (s *Storage) Close() error {
	s.scrap.close()
	s.leaving.wg.Wait()
	s.unsynced.wg.Wait()
	if err := s.lists.keepGood(); err != nil {
		s.log.Warn("the store's lists could not be copied", "error", err)
	}
	s.store.Free()
	return nil
}

// Info tells which driver is used and why.
func (s *Storage) Info() moss.StorageInfo {
	info := moss.StorageInfo{Driver: s.choice.driver, Root: s.store.GraphRoot()}
	if s.choice.driver == driverOverlay {
		mounter := "kernel"
		if s.choice.mountProgram != "" {
			mounter = s.choice.mountProgram
		}
		info.Status = append(info.Status, [2]string{"Mounted By", mounter})
		if s.choice.mountOptions != "" {
			info.Status = append(info.Status, [2]string{"Mount Options", s.choice.mountOptions})
		}
	}
	status, err := s.store.Status()
	if err != nil {
		status = [][2]string{{"Error", err.Error()}}
	}
	info.Status = append(info.Status, status...)
	info.Status = append(info.Status, [2]string{"Last Check", s.report.String()}, [2]string{"Chosen Because", s.choice.why}, [2]string{"Root Dir", filepath.Clean(info.Root)})
	return info
}
