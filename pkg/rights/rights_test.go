package rights_test

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

func TestReceived(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Credentials come along, before or behind: they are no descriptors.
	if err := unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	from, to := conn(t, pair[0]), conn(t, pair[1])
	var sent []os.FileInfo
	var fds []int
	for _, name := range []string{"/", "/proc", "/dev/null"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		sent, fds = append(sent, info), append(fds, int(f.Fd()))
	}
	if _, _, err := from.WriteMsgUnix([]byte("x"), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, 256)
	_, n, _, _, err := to.ReadMsgUnix(make([]byte, 8), oob)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rights.Received(oob[:n])
	if err != nil || len(got) != len(sent) {
		t.Fatalf("%v, %v; want %d descriptors", got, err, len(sent))
	}
	for i, fd := range got {
		f := os.NewFile(uintptr(fd), "received")
		info, err := f.Stat()
		if err != nil || !os.SameFile(info, sent[i]) {
			t.Errorf("descriptor %d is not the one sent (%v)", i, err)
		}
		_ = f.Close()
	}
}

func TestReceivedBroken(t *testing.T) {
	whole := unix.UnixRights(0)
	if got, err := rights.Received(whole[:len(whole)-5]); err == nil {
		t.Fatalf("descriptors %v of a broken message", got)
	}
}

func conn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}
