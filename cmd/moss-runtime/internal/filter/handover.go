package filter

import (
	"errors"
	"os"
	"strconv"

	"github.com/opencontainers/runc/libcontainer"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// seals keep the memory file as it is, for everyone and ever.
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

// Give makes e, which may be nil, part of lp: the last of its ExtraFiles, so
// attach others before. Close the returned file after the start.
//
// libcontainer gives its init no variable and no descriptor of another's but
// those, which it hands on to the container's process. Take keeps ours back.
// As every init is given one, which it is needs no telling.
func Give(lp *libcontainer.Process, e *Entry) (*os.File, error) {
	var data []byte
	if e != nil {
		data = e.encode()
	}
	f, err := sealed(data)
	if err != nil {
		return nil, os.NewSyscallError("cannot hand the seccomp program over: memfd_create", err)
	}
	lp.ExtraFiles = append(lp.ExtraFiles, f)
	return f, nil
}

func sealed(data []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("moss-seccomp", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate("moss-seccomp", flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "seccomp program")
	if _, err = f.Write(data); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Take is for the init of a container or an exec, before libcontainer's: it
// makes libcontainer's filter have the given program, if that is its own.
func Take() {
	fd, ok := position()
	if !ok {
		return
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || have&seals != seals {
		return
	}
	// It stays open, so that nothing else gets its number, which libcontainer
	// leaves open for the container; and it goes with the exec.
	unix.CloseOnExec(fd)
	data := make([]byte, maxEntry)
	n, err := unix.Pread(fd, data, 0)
	if err != nil || n == 0 {
		return
	}
	given, err := decode(data[:n])
	if err != nil {
		return
	}
	libseccomp.SetSource(given.answer)
}

// position is the descriptor before the first that libcontainer adds to the
// ExtraFiles: the console's socket or the init pipe.
func position() (int, bool) {
	for _, name := range []string{"_LIBCONTAINER_CONSOLE", "_LIBCONTAINER_INITPIPE"} {
		if v := os.Getenv(name); v != "" {
			fd, err := strconv.Atoi(v)
			return fd - 1, err == nil && fd > 3
		}
	}
	return 0, false
}

// answer is the source of an init.
func (e *Entry) answer(f *libseccomp.ScmpFilter) ([]byte, error) {
	if key, err := f.Key(); err == nil && key == e.Key {
		logrus.Debug("seccomp: the program was given")
		return e.Program, nil
	}
	logrus.Debug("seccomp: another filter's program was given")
	return f.Compile()
}
