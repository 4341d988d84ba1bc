// Package rights takes the descriptors that another process has sent over a
// Unix socket: SCM_RIGHTS of unix(7).
package rights

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Received are the descriptors in the control messages oob of one recvmsg(2),
// in the order of their sending. They are the caller's to close; where there is
// an error all that came are closed.
func Received(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	var errs []error
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		all, errs = append(all, fds...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		Close(all)
		return nil, err
	}
	return all, nil
}

// Close closes descriptors that nobody wants.
func Close(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was written to it
	}
}
