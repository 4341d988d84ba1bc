package runtime

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigchld is the part of siginfo_t that waitid(2) fills in on 64-bit Linux:
// after signo, errno and code comes, aligned to a pointer, the child's story.
type sigchld struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
	pid                int32
	uid                uint32
	status             int32
}

// cldExited is si_code of a child that called exit (waitid(2)).
const cldExited = 1

// exitCode is 128+n for a child ended by signal n.
func exitCode(info *unix.Siginfo) int {
	c := (*sigchld)(unsafe.Pointer(info))
	if c.code == cldExited {
		return int(c.status)
	}
	return 128 + int(c.status)
}
