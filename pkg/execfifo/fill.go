package execfifo

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// letsGo is the byte that libcontainer's init writes.
const letsGo = '0'

// Fill is init's: it fills the fifo that descriptor fd leads to (O_PATH is enough) and
// keeps a reading end, which goes when the container's program takes init's place.
// Where it fails init waits in open(2), as any runtime's does.
func Fill(fd int) error {
	end, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	// The least there is, one page: it is free again only when all of it has been read.
	size, err := unix.FcntlInt(uintptr(end), unix.F_SETPIPE_SZ, 1)
	if err == nil {
		_, err = unix.Write(end, make([]byte, size))
	}
	if err != nil {
		return errors.Join(os.NewSyscallError("fill", err), unix.Close(end))
	}
	return nil
}
