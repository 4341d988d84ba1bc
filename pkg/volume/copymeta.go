package volume

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func copyDirMeta(src, dst *os.File, name string) error {
	if name == "" {
		name = "."
	}
	from, err := openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	to, err := openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(copyMeta(int(from.Fd()), int(to.Fd())), to.Close())
}

func copyMeta(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	return setMeta(from, to, &st)
}

// setMeta gives owner, attributes, mode and times, in the order in which none
// takes another away.
func setMeta(from, to int, st *unix.Stat_t) error {
	if st.Uid != 0 || st.Gid != 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return os.NewSyscallError("fchown", err)
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return os.NewSyscallError("utimensat", utimes(to, st))
}

func utimes(fd int, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func copyXattrs(from, to int) error {
	var list [4096]byte
	n, err := unix.Flistxattr(from, list[:])
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "security.selinux" || strings.HasPrefix(name, "trusted.") {
			continue // the volume's own, or not ours to give
		}
		value := make([]byte, 64<<10)
		size, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return os.NewSyscallError("fgetxattr "+name, err)
		}
		if err := unix.Fsetxattr(to, name, value[:size], 0); err != nil {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}
