package holder

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// FuzzSockets: the kernel's line of a socket is read whatever stands before it.
func FuzzSockets(f *testing.F) {
	f.Add("  sl  local_address rem_address   st\n", uint16(80), uint32(1000), uint32(5))
	f.Add("0: 0100007F:0050 0:0 0A 0 0 0 0 0 1\n0: zz:yy 0 0A 0 0 0 0 0 1", uint16(0), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, before string, port uint16, uid, inode uint32) {
		if before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		if len(before) > 60<<10 { // a line of the kernel's is short
			return
		}
		line := fmt.Sprintf("   1: 0100007F:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0\n", port, uid, inode)
		n := len(sockets(strings.NewReader(before), false))
		all := sockets(strings.NewReader(before+line), false)
		want := socket{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), uid, fmt.Sprint(inode)}
		if len(all) != n+1 || all[n] != want {
			t.Errorf("%q behind %d is read as %+v", line, n, all)
		}
		for _, s := range all {
			if !s.at.Addr().IsValid() || s.inode == "" {
				t.Errorf("%q has %+v", before, s)
			}
		}
		for _, s := range sockets(strings.NewReader(before), true) {
			if !s.hinders(netip.Addr{}, "", int(s.at.Port())) {
				t.Errorf("%+v is in nobody's way", s)
			}
		}
	})
}

// FuzzRoutes: a default route is found behind any others, and nothing else is one.
func FuzzRoutes(f *testing.F) {
	f.Add("Iface\tDestination\tGateway\n", "eth0 x")
	f.Add("lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n", "")
	f.Fuzz(func(t *testing.T, before, version string) {
		if date, ok := pastaDate(version); ok && (date.Year() < 2000 || !strings.Contains(strings.ReplaceAll(version, "_", ""), date.Format("20060102"))) {
			t.Errorf("%q is of %s", version, date)
		}
		if len(before) > 60<<10 {
			return
		}
		if before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		if hasDefaultRoute(strings.NewReader(before)) && !strings.Contains(before, "00000000") || hasDefaultRoute6(strings.NewReader(before)) && !strings.Contains(before, "00") {
			t.Errorf("%q has a default route", before)
		}
		const four = "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
		const six = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"
		if !hasDefaultRoute(strings.NewReader(before+four)) || !hasDefaultRoute6(strings.NewReader(before+six)) {
			t.Errorf("behind %q no default route is found", before)
		}
	})
}

// FuzzTaker: who has a port can be shown, whatever that process calls itself.
func FuzzTaker(f *testing.F) {
	proc := f.TempDir()
	dir := filepath.Join(proc, "7")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "fd"), 0o700), os.Symlink("socket:[5]", filepath.Join(dir, "fd", "3"))); err != nil {
		f.Fatal(err)
	}
	f.Add("nginx\n")
	f.Add("\x1b[2J\a")
	f.Fuzz(func(t *testing.T, comm string) {
		if err := os.WriteFile(filepath.Join(dir, "comm"), []byte(comm), 0o600); err != nil {
			t.Fatal(err)
		}
		who := openedBy(proc, "5")
		if !strings.HasSuffix(who, " (process 7)") || strings.ContainsFunc(who, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q is told as %q", comm, who)
		}
	})
}
