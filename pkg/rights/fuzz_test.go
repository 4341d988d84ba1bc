package rights_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// FuzzReceived: of whatever messages come with a recvmsg(2), cut anywhere, the
// descriptors are all returned, in their order, or all closed.
func FuzzReceived(f *testing.F) {
	f.Add([]byte{0x02}, uint16(0))
	f.Add([]byte{0x40, 0x01, 0x80, 0x00}, uint16(0))
	f.Add([]byte{0x01, 0x03}, uint16(5))
	f.Add([]byte{0x01, 0xc0, 0x01}, uint16(0)) // a header that lies behind one that is whole
	f.Add([]byte{0x00, 0xff}, uint16(0))
	f.Fuzz(func(t *testing.T, script []byte, cut uint16) {
		type sent struct{ fd, end int }
		var all []sent
		var oob []byte
		for _, c := range script[:min(len(script), 16)] {
			switch n := int(c & 0x3f); c >> 6 {
			case 0:
				var fds []int
				for range n%4 + 1 {
					fd, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
					if err != nil {
						t.Fatal(err)
					}
					fds = append(fds, fd)
				}
				end := len(oob) + unix.CmsgLen(4*len(fds))
				oob = append(oob, unix.UnixRights(fds...)...)
				for _, fd := range fds {
					all = append(all, sent{fd, end})
				}
			case 1:
				oob = append(oob, unix.UnixCredentials(&unix.Ucred{Pid: int32(n)})...)
			case 2: // another protocol's
				m := unix.UnixRights(make([]int, n%4)...)
				binary.NativeEndian.PutUint32(m[8:], unix.SOL_IP)
				oob = append(oob, m...)
			case 3: // one that says to be longer, or shorter, than it can be
				m := make([]byte, unix.CmsgSpace(0))
				length := uint64(n % unix.SizeofCmsghdr)
				if n&0x20 != 0 {
					length = 1 << n
				}
				binary.NativeEndian.PutUint64(m, length)
				oob = append(oob, m...)
			}
		}
		oob = oob[:max(0, len(oob)-int(cut))]
		got, err := rights.Received(oob)
		if err != nil && got != nil {
			t.Errorf("%x gives %v with %v", oob, got, err)
		}
		broken := slices.IndexFunc(script, func(c byte) bool { return c>>6 == 3 })
		if err != nil && cut == 0 && (broken < 0 || broken >= 16) {
			t.Errorf("%x: %v", oob, err)
		}
		if err == nil && cut == 0 && len(got) != len(all) {
			t.Errorf("%x gives %v of %v", oob, got, all)
		}
		for i, s := range all {
			_, gone := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0)
			switch open := gone == nil; {
			case err == nil && i < len(got):
				if got[i] != s.fd || !open {
					t.Errorf("%x: descriptor %d of %v is %v, open %v", oob, i, all, got, open)
				}
			case err == nil && s.end <= len(oob):
				t.Errorf("%x gives %v and not %d", oob, got, s.fd)
			case err != nil && open && s.end <= len(oob) && whole(oob, s.end):
				t.Errorf("%x: %v, and %d stays open", oob, err, s.fd)
			}
			_ = unix.Close(s.fd) // or it is closed
		}
	})
}

// whole says whether all messages that begin before end are.
func whole(oob []byte, end int) bool {
	for at := 0; at < end; {
		n := int(binary.NativeEndian.Uint64(oob[at:]))
		if n < unix.SizeofCmsghdr || at+n > len(oob) {
			return false
		}
		at += unix.CmsgSpace(n - unix.SizeofCmsghdr)
	}
	return true
}
