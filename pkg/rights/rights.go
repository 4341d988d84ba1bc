// Package rights takes the descriptors that another process has sent over a
// Unix socket: SCM_RIGHTS of unix(7).
package rights

import "golang.org/x/sys/unix"

// Received are the descriptors in the control messages oob of one recvmsg(2),
// in the order of their sending. They are the caller's to close; where there is
// an error all that came are closed.
func Received(oob []byte) ([]int, error) {
	var all []int
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			Close(all)
			return nil, err
		}
		if oob = rest; header.Level != unix.SOL_SOCKET || header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&unix.SocketControlMessage{Header: header, Data: data})
		all = append(all, fds...)
		if err != nil {
			Close(all)
			return nil, err
		}
	}
	return all, nil
}

// Close closes descriptors that nobody wants.
func Close(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was written to it
	}
}
