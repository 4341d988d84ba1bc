package storage

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// same says whether what dir has under the entry's name is what old has, by
// what a tar tells of it but the content. For a directory its own properties
// count alone. Drivers that keep whole trees copy the times, too.
func same(dir, old *os.File, e *entry) bool {
	if old == nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(old.Fd()), e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	if st.Mode != e.st.Mode || st.Uid != e.st.Uid || st.Gid != e.st.Gid {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Size == e.st.Size && st.Mtim == e.st.Mtim && sameXattrs(dir, old, e.name, 0)
	case unix.S_IFDIR:
		return sameXattrs(dir, old, e.name, unix.O_DIRECTORY)
	case unix.S_IFLNK:
		a, errA := readlink(dir, e.name)
		b, errB := readlink(old, e.name)
		return errA == nil && errB == nil && a == b
	}
	return st.Rdev == e.st.Rdev
}

func sameXattrs(dir, old *os.File, name string, flags int) bool {
	var sets [2]map[string][]byte
	for i, d := range []*os.File{dir, old} {
		fd, err := unix.Openat(int(d.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
		if err != nil {
			return false
		}
		f := os.NewFile(uintptr(fd), name)
		keys := listXattrs(f)
		slices.Sort(keys)
		sets[i] = make(map[string][]byte, len(keys))
		for _, k := range keys {
			v, err := getXattr(f, k)
			if err != nil {
				_ = f.Close() // only read
				return false
			}
			sets[i][k] = v
		}
		_ = f.Close() // only read
	}
	if len(sets[0]) != len(sets[1]) {
		return false
	}
	for k, v := range sets[0] {
		if w, ok := sets[1][k]; !ok || !bytes.Equal(v, w) {
			return false
		}
	}
	return true
}
