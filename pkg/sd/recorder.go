package sd

import (
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Recorder is a Store that has what is in the descriptor store at hand: the
// manager gives files back only at a start, and before systemd 254 forgets them
// when the service ends for good. It holds one more duplicate of each.
type Recorder struct {
	Store

	mu    sync.Mutex
	files map[string][]*os.File
}

// NewRecorder records what goes through the store.
func NewRecorder(s Store) *Recorder { return &Recorder{Store: s, files: map[string][]*os.File{}} }

// Put stores duplicates of files under a name.
func (r *Recorder) Put(name string, files ...*os.File) error {
	if err := r.Store.Put(name, files...); err != nil {
		return err
	}
	return r.record(name, files)
}

// Remove lets go of what has a name.
func (r *Recorder) Remove(name string) error {
	r.mu.Lock()
	old := r.files[name]
	delete(r.files, name)
	r.mu.Unlock()
	for _, f := range old {
		_ = f.Close() // nothing was written by it
	}
	return r.Store.Remove(name)
}

// Take returns the stored files of a name, once.
func (r *Recorder) Take(name string) []*os.File {
	files := r.Store.Take(name)
	_ = r.record(name, files) // what is missing here is missed by Contents
	return files
}

// Listeners returns the sockets of a name.
func (r *Recorder) Listeners(name string) []net.Listener {
	all := r.Store.Listeners(name)
	for _, l := range all {
		filer, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			continue
		}
		if f, err := filer.File(); err == nil {
			r.mu.Lock()
			r.files[name] = append(r.files[name], f)
			r.mu.Unlock()
		}
	}
	return all
}

// Stored is a file in the store.
type Stored struct {
	Name string
	File *os.File
}

// Contents returns duplicates of all that is in the store, in the order of the
// names, but for what this process has neither put nor taken; the caller closes them.
func (r *Recorder) Contents() (all []Stored, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		for _, f := range r.files[name] {
			d, err := duplicate(f)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			all = append(all, Stored{name, d})
		}
	}
	return all, errors.Join(errs...)
}

// record keeps duplicates of files.
func (r *Recorder) record(name string, files []*os.File) error {
	var errs []error
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range files {
		d, err := duplicate(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.files[name] = append(r.files[name], d)
	}
	return errors.Join(errs...)
}

// duplicate does not change the file's mode, as File.Fd would.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, serr := -1, error(nil)
	err = raw.Control(func(old uintptr) { fd, serr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(err, os.NewSyscallError("fcntl", serr)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
