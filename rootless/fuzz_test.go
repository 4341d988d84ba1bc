package rootless

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzWire: a port that the holder tells of is the one that it was asked for.
func FuzzWire(f *testing.F) {
	f.Add([]byte(`{"proto":"tcp4","parentIP":"0.0.0.0","parentPort":80,"childIP":"10.0.0.2","childPort":8080}`), uint16(80), uint16(8080), "10.0.0.2", "")
	f.Add([]byte(`{"proto":"udp","parentPort":65616,"childPort":-1}`), uint16(1), uint16(65535), "fd00::2", "::")
	f.Fuzz(func(t *testing.T, text []byte, host, child uint16, childIP, hostIP string) {
		var w wireSpec
		if json.Unmarshal(text, &w) == nil {
			if s, err := fromWire(w); err == nil && (int(s.HostPort) != w.ParentPort || int(s.ChildPort) != w.ChildPort) {
				t.Errorf("%s is read as %s", text, s)
			}
		}
		to, err := netip.ParseAddr(childIP)
		if err != nil {
			return
		}
		at, _ := netip.ParseAddr(hostIP) // invalid: all addresses
		for _, proto := range []string{"tcp", "udp"} {
			want := PortSpec{Proto: proto, HostIP: at, HostPort: host, ChildIP: to, ChildPort: child}
			if got, err := fromWire(toWire(want)); err != nil || got != want {
				t.Errorf("%+v is told as %+v, %v", want, got, err)
			}
		}
	})
}

// FuzzInfo: what a holder says of itself may be anything. What is read can be written, and is the same then.
func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"networkDriver":"pasta","childIP":"10.0.2.100","dns":["10.0.2.3"],"mtu":65520,"gateway":"10.0.2.2","childPID":5,"wayOut":{"mark":1,"except":["10.0.0.0/8"]}}`))
	f.Add([]byte(`{"childIP":"fe80::1%eth0","dns":[""],"wayOut":{"except":[""]}}`))
	f.Add([]byte("null"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, InfoFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := ReadInfo(dir)
		if err != nil {
			return
		}
		info.StateDir = dir
		if err := WriteInfo(info); err != nil {
			t.Fatal(err)
		}
		back, err := ReadInfo(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(info.DNS) == 0 {
			info.DNS = back.DNS // none is not told
		}
		if !reflect.DeepEqual(info, back) {
			t.Errorf("%q: %+v is read back as %+v", text, info, back)
		}
	})
}

// FuzzKeep: a message between daemon and holder may be anything. One that is taken is bounded, and
// is the same when it is sent on.
func FuzzKeep(f *testing.F) {
	f.Add([]byte(`{"op":"give","name":"abc.out","watch":true}`))
	f.Add([]byte(`{"op":"failed","error":"no"}`))
	f.Add([]byte("{}"))
	f.Add(make([]byte, mostKeepMessage+1))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 || len(text) > 2*mostKeepMessage {
			return
		}
		a, b := pair(t)
		if _, err := a.Write(text); err != nil {
			t.Fatal(err)
		}
		m, file, err := ReceiveKeep(b)
		if file != nil {
			t.Errorf("%q came with a file", text)
		}
		if err != nil {
			return
		}
		if len(text) > mostKeepMessage {
			t.Errorf("%d bytes were taken", len(text))
		}
		if err := SendKeep(a, m, nil); err != nil {
			return // written out it may be longer
		}
		if again, _, err := ReceiveKeep(b); err != nil || again != m {
			t.Errorf("%+v is received as %+v, %v", m, again, err)
		}
	})
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close() // duplicated
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}
