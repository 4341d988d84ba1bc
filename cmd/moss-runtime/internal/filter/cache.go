package filter

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"github.com/sirupsen/logrus"
)

// Cache is a directory of entries and of what stands in for profiles, one a
// file. Files are replaced, never written to: containers have links to them.
// Several processes may use it at once. The zero Cache keeps nothing.
type Cache struct{ dir string }

// most is how many files are kept: 10 KB an entry, less than one a stand-in.
const most = 128

// ForRoot returns the cache of a runtime whose state is below root. It lies
// beside root, in which everything is a container.
func ForRoot(root string) Cache { return Cache{filepath.Clean(root) + "-seccomp"} }

// Entry returns the entry of profile, compiled if need be. Trouble with the
// directory is for the debug log: what cannot be kept is compiled again.
func (c Cache) Entry(profile *configs.Seccomp) (*Entry, error) {
	var e *Entry
	err := build(profile, func(f *libseccomp.ScmpFilter) error {
		key, err := f.Key()
		if err != nil {
			return err
		}
		if e, err = c.load(key); err == nil {
			return nil
		}
		logrus.Debugf("seccomp: no program is kept: %v", err)
		program, err := f.Compile()
		if err != nil {
			return err
		}
		if small, err := shrink(program); err == nil {
			program = small
		} else {
			logrus.Debugf("seccomp: libseccomp's program is taken as it is: %v", err)
		}
		e = &Entry{key, program}
		if err := c.store(e); err != nil {
			logrus.Debugf("seccomp: the program is not kept: %v", err)
		}
		return nil
	})
	return e, err
}

// file is where the entry of key lies. The name is also this executable's: a
// new one may have another libseccomp in it that calls itself the same.
func (c Cache) file(key libseccomp.Key) (string, error) {
	if c.dir == "" {
		return "", errors.New("there is no cache")
	}
	st, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	name := key[:]
	for _, n := range []int64{inode(st), st.Size(), st.ModTime().UnixNano()} {
		name = append(strconv.AppendInt(name, n, 10), ' ')
	}
	sum := sha256.Sum256(name)
	return filepath.Join(c.dir, hex.EncodeToString(sum[:])), nil
}

func inode(st fs.FileInfo) int64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int64(s.Ino)
	}
	return 0
}

func (c Cache) load(key libseccomp.Key) (*Entry, error) {
	data, err := c.read(key)
	if err != nil {
		return nil, err
	}
	e, err := decode(data)
	if err != nil {
		return nil, err
	}
	if e.Key != key {
		return nil, fmt.Errorf("%x: another filter's program", key)
	}
	return e, nil
}

// read returns what is kept under key.
func (c Cache) read(key libseccomp.Key) ([]byte, error) {
	name, err := c.file(key)
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(maxEntry)+1))
}

// check refuses a directory that others could put programs in.
func (c Cache) check() error {
	st, err := os.Lstat(c.dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || st.Mode().Perm() != 0o700 || int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a directory of this user's own (mode 0700)", c.dir)
	}
	return nil
}

func (c Cache) store(e *Entry) error { return c.write(e.Key, e.encode()) }

// write keeps data under key, atomically. No fsync: a file cut short is found
// damaged.
func (c Cache) write(key libseccomp.Key, data []byte) error {
	name, err := c.file(key)
	if err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if err := c.prune(); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.dir, "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// prune makes room for one more, oldest first, whatever the files are: those
// a killed process has left go the same way.
func (c Cache) prune() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) < most {
		return err
	}
	type file struct {
		name string
		time int64
	}
	var files []file
	for _, e := range entries {
		if st, err := e.Info(); err == nil { // else another process was first
			files = append(files, file{e.Name(), st.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.time, b.time) })
	for _, f := range files[:max(0, len(files)-most+1)] {
		if err := os.RemoveAll(filepath.Join(c.dir, f.name)); err != nil {
			return err
		}
	}
	return nil
}
