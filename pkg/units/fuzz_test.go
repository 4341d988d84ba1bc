package units

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/godbus/dbus/v5"
)

// FuzzBusPath: of whatever DBUS_SESSION_BUS_ADDRESS has, the path is one that can
// be dialled and no other, or it is refused in words; each path that is escaped by
// the rules of D-Bus is read as it was.
func FuzzBusPath(f *testing.F) {
	f.Add("unix:path=/run/user/1000/bus,guid=0011", "/run/user/1000/bus")
	f.Add("tcp:host=x;unix:guid=1,path=/a%20b", "/a;b,c=d%")
	f.Add("unix:abstract=%zz", "/ä\n")
	f.Add("unix:path=", "/")
	f.Add("unix:path=@x", "/@x")
	f.Add("unix:path=/a%00b", "/\x01")
	f.Fuzz(func(t *testing.T, addresses, path string) {
		got, err := busPath(addresses)
		switch {
		case err != nil:
			if got != "" || err.Error() == "" || len(err.Error()) > 4<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%q is %q, %q", addresses, got, err)
			}
		case len(got) < 2 || got[0] != '/' && got[0] != '@' || strings.Contains(got, "\x00"):
			t.Errorf("%q is at %q", addresses, got)
		}
		if len(path) < 2 || path[0] != '/' || strings.Contains(path, "\x00") {
			return
		}
		var all strings.Builder // a byte may be escaped that need not be
		for i := range len(path) {
			fmt.Fprintf(&all, "%%%02X", path[i])
		}
		for _, escaped := range []string{dbus.EscapeBusAddressValue(path), all.String()} {
			for _, form := range []string{"unix:path=%s", "tcp:host=h;unix:guid=00,path=%s,x=y;unix:path=/other"} {
				if got, err := busPath(fmt.Sprintf(form, escaped)); err != nil || got != path {
					t.Errorf("%q, escaped as %q, is read as %q, %v", path, escaped, got, err)
				}
			}
			if got, err := busPath("unix:abstract=" + escaped); err != nil || got != "@"+path {
				t.Errorf("%q, escaped as %q, is read as %q, %v", path, escaped, got, err)
			}
		}
	})
}

// FuzzUnitPath: a unit's object has the path that systemd gives it (bus_label_escape),
// and by such a path the unit is found again.
func FuzzUnitPath(f *testing.F) {
	f.Add("moss-0123456789ab.service")
	f.Add("0.slice")
	f.Add("a_b@\\x2d:c.socket")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		if strings.ContainsFunc(name, func(r rune) bool { // VALID_CHARS of systemd's unit-name.c
			return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(`:-_.\@`, r)
		}) {
			return
		}
		want := ""
		for i, r := range name {
			if unicode.IsLetter(r) || i > 0 && unicode.IsDigit(r) {
				want += string(r)
			} else {
				want += fmt.Sprintf("_%02x", r)
			}
		}
		if want == "" {
			want = "_"
		}
		path := unitPath(name)
		if string(path) != unitPathBase+want || !path.IsValid() {
			t.Errorf("%q is at %q, not %q", name, path, want)
		}
		if got := unescape(string(path[len(unitPathBase):])); got != name {
			t.Errorf("%q, at %q, is read as %q", name, path, got)
		}
	})
}
