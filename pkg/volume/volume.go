// Package volume keeps volumes: directories that outlive the containers that
// use them. A volume of the driver local is one directory, D/volumes/NAME, with volume.json, which
// describes it, and _data, which has its files. It comes into being by the
// rename of a finished directory and goes by a rename out of sight, so that at
// any instant it is there as a whole or not at all. What an earlier daemon left
// unfinished is finished, or thrown away, by Open. Of a volume whose driver is a
// plugin there is volume.json, and mounts, with those who use it (hold.go); the
// plugin has the rest.
package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Names in the directory of volumes and in that of one. A volume's name cannot
// begin with a dot.
const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
	recordFile = "volume.json"
	dataDir    = "_data"
	fillDir    = "_fill"      // what is complete and on its way into _data
	fillNew    = "_fill.new"  // what is being copied
	fillTime   = "_fill.time" // an empty file with the times that _data is to have: moves change those of _fill
)

// Options say where volumes are.
type Options struct {
	Dir    string // D/volumes
	RunDir string // R/volumes, for mounts of parts of volumes
	Log    *slog.Logger

	Plugins Plugins // nil for none
}

// Store is the volumes of one engine.
type Store struct {
	o Options

	mu   sync.Mutex // for a look or a change
	all  map[string]moss.Volume
	busy map[string]chan struct{} // closed when the one who works on the volume is done

	holds  map[string]map[moss.ContainerID]*hold // by volume; guarded by mu
	paying bool                                  // someone tells plugins what they are owed; guarded by mu
	woken  chan struct{}

	life     context.Context // ends with Close
	end      context.CancelFunc
	sweeping sync.WaitGroup
}

// Open reads what volumes there are. One that cannot be read is logged and
// stays as it is.
func Open(o Options) (*Store, error) {
	s := &Store{
		o: o, all: make(map[string]moss.Volume), busy: make(map[string]chan struct{}),
		holds: make(map[string]map[moss.ContainerID]*hold), woken: make(chan struct{}, 1),
	}
	s.life, s.end = context.WithCancel(context.Background())
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, moss.Wrap(err, "make the directory of volumes", o.Dir)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, moss.Wrap(err, "read the directory of volumes", o.Dir)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, gonePrefix) {
			s.sweep(name)
			continue
		}
		v, err := s.read(name)
		switch {
		case err == nil && remote(v):
			err = s.readHolds(name)
		case err == nil:
			err = s.settle(name)
		}
		if err != nil {
			o.Log.Error("a volume cannot be read; it is left as it is", "volume", name, "error", err)
			continue
		}
		s.all[name] = v
	}
	return s, nil
}

// Close waits until removed volumes' files are gone. What plugins are owed is left
// to the next Open.
func (s *Store) Close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.sweeping.Wait()
	return nil
}

func (s *Store) path(name string, more ...string) string {
	return filepath.Join(append([]string{s.o.Dir, name}, more...)...)
}

func (s *Store) read(name string) (moss.Volume, error) {
	text, err := os.ReadFile(s.path(name, recordFile))
	if err != nil {
		return moss.Volume{}, err
	}
	v, err := decode(name, text)
	if err == nil && !remote(v) {
		v.Path = s.path(name, dataDir)
	}
	return v, err
}

// decode reads the record of a volume.
func decode(name string, text []byte) (moss.Volume, error) {
	var v moss.Volume
	err := json.Unmarshal(text, &v)
	switch {
	case err != nil:
		err = errors.New(moss.Shown(err.Error())) // it quotes the record
	case v.Name != name:
		err = fmt.Errorf("it is the record of %.300q", v.Name)
	case v.Driver == "": // it would be a plugin's
		err = errors.New("it names no driver")
	default:
		return v, nil
	}
	return moss.Volume{}, err
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxName is what a file system takes for a name.
const maxName = 255

func checkName(name string) error {
	if len(name) > maxName {
		return moss.Errorf(moss.Invalid, "the volume name is longer than %d characters", maxName)
	}
	if !validName.MatchString(name) {
		return moss.Errorf(moss.Invalid, `create %s: %q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, name, name)
	}
	return nil
}

// Create makes a volume; one that is there with the same driver and options is
// it already.
func (s *Store) Create(ctx context.Context, r moss.VolumeRequest) (_ moss.Volume, created bool, err error) {
	v := moss.Volume{Name: r.Name, Driver: cmp.Or(r.Driver, moss.LocalDriver), Options: maps.Clone(r.Options), Labels: maps.Clone(r.Labels), Created: time.Now()}
	if v.Name == "" {
		v.Name = moss.NewHexID()
	}
	if err := checkName(v.Name); err != nil {
		return v, false, err
	}
	done, err := s.begin(ctx, v.Name)
	if err != nil {
		return v, false, err
	}
	defer done()
	if have, err := s.Get(v.Name); err == nil {
		have, err = s.again(ctx, r, have)
		return have, false, err
	}
	if remote(v) {
		return s.createRemote(ctx, v)
	}
	if r.Name != "" && r.Driver == "" && !v.Anonymous() {
		if found, ok := s.search(ctx, v.Name); ok {
			found.Labels = v.Labels
			return s.keep(ctx, found)
		}
	}
	if err := checkOptions(v.Options); err != nil {
		return v, false, moss.Wrap(err, "create the volume", v.Name)
	}
	v.Scope = "local"
	if err := s.write(v); err != nil {
		return v, false, moss.Wrap(err, "create the volume", v.Name)
	}
	v.Path = s.path(v.Name, dataDir)
	s.set(v)
	return v, true, nil
}

// again judges a request for a volume that is there.
func (s *Store) again(ctx context.Context, r moss.VolumeRequest, have moss.Volume) (moss.Volume, error) {
	if r.Driver != "" && r.Driver != have.Driver {
		return have, moss.Errorf(moss.Conflict, "create %s: driver '%s' already has volume '%s': volume name must be unique", r.Name, have.Driver, r.Name)
	}
	if len(r.Options) > 0 && !maps.Equal(have.Options, r.Options) {
		return have, moss.Errorf(moss.Conflict, "create %s: a volume with this name and other options is there already: remove it first, or choose another name", have.Name)
	}
	if remote(have) {
		return s.confirm(ctx, have)
	}
	return have, nil
}

// write puts a volume's directory in place, for good when it returns.
func (s *Store) write(v moss.Volume) (err error) {
	temp := s.path(newPrefix + moss.NewHexID()[:12])
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := s.makeDirs(temp, v); err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(temp, recordFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := syncDir(temp); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, s.path(v.Name), unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: temp, New: s.path(v.Name), Err: err}
	}
	return syncDir(s.o.Dir)
}

func (s *Store) makeDirs(temp string, v moss.Volume) error {
	if remote(v) {
		return os.Mkdir(temp, 0o700)
	}
	if err := os.MkdirAll(filepath.Join(temp, dataDir), 0o755); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(temp, dataDir), 0o755) // whatever the umask
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get finds a volume by its name. Errors: NotFound.
func (s *Store) Get(name string) (moss.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.all[name]
	if !ok {
		return v, moss.Errorf(moss.NotFound, "get %s: no such volume", name)
	}
	return v, nil
}

// List returns every volume by name, from memory.
func (s *Store) List() []moss.Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.all), func(a, b moss.Volume) int { return cmp.Compare(a.Name, b.Name) })
}

// Remove takes a volume away; its files go behind. Errors: NotFound.
func (s *Store) Remove(ctx context.Context, name string) error {
	done, err := s.begin(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	if remote(v) {
		if err := s.removeRemote(ctx, v); err != nil {
			return err
		}
	} else if err := s.unmount(name); err != nil {
		return moss.Wrap(err, "remove the volume", name)
	}
	return s.discard(name)
}

// discard takes a volume's directory out of sight.
func (s *Store) discard(name string) error {
	gone := gonePrefix + moss.NewHexID()[:12]
	if err := os.Rename(s.path(name), s.path(gone)); err != nil {
		return moss.Wrap(err, "remove the volume", name)
	}
	s.mu.Lock()
	delete(s.all, name)
	delete(s.holds, name)
	s.mu.Unlock()
	s.sweep(gone)
	return moss.Wrap(syncDir(s.o.Dir), "remove the volume", name)
}

// sweep deletes, behind, a directory that is out of sight.
func (s *Store) sweep(name string) {
	s.sweeping.Go(func() {
		if err := os.RemoveAll(s.path(name)); err != nil {
			s.o.Log.Error("a removed volume's files could not be deleted; the next start tries again", "directory", name, "error", err)
		}
	})
}

// begin takes the turn of a volume for the steps of one operation.
func (s *Store) begin(ctx context.Context, name string) (done func(), err error) {
	for {
		s.mu.Lock()
		wait, taken := s.busy[name]
		if !taken {
			mine := make(chan struct{})
			s.busy[name] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, name)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, moss.Wrap(ctx.Err(), "wait for the turn of the volume", name)
		}
	}
}

// Size is what a volume's own files take, in bytes: not of what its options mount.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	v, err := s.Get(name)
	if err != nil {
		return 0, err
	}
	if v.Options["device"] != "" || remote(v) {
		return 0, nil
	}
	var size int64
	seen := make(map[uint64]bool)
	err = filepath.WalkDir(v.Path, func(_ string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // it went meanwhile, or is not ours to see
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it went meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		size += info.Size()
		return nil
	})
	return size, moss.Wrap(err, "measure the volume", name)
}
