package local

import (
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzNotified: whatever a child says by sd_notify(3), each descriptor that came
// with it is stored or closed, and what is removed is gone.
func FuzzNotified(f *testing.F) {
	f.Add("READY=1\nSTATUS=serving", "")
	f.Add("FDSTORE=1\nFDNAME=a.out", "FDSTOREREMOVE=1\nFDNAME=a.out")
	f.Add("FDSTOREREMOVE=1\nFDSTORE=1\nFDNAME=a", "BARRIER=1")
	f.Add("FDSTORE=1\nFDSTORE=0\n=\n\x00=1", "READY=1")
	f.Fuzz(func(t *testing.T, first, second string) {
		n := &notified{who: "x", log: slog.New(slog.DiscardHandler), ready: make(chan struct{}, 1)}
		defer n.drop()
		before := 0
		for _, text := range []string{first, second} {
			fds := make([]int, 2)
			if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			n.take(text, fds)
			lines := strings.Split(text, "\n")
			last := func(key string) (value string, ok bool) { // systemd takes one of each
				for _, l := range lines {
					if v, found := strings.CutPrefix(l, key+"="); found {
						value, ok = v, true
					}
				}
				return value, ok
			}
			store, _ := last("FDSTORE")
			for _, fd := range fds {
				_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if open := err == nil; open != (store == "1") {
					t.Errorf("%q: descriptor %d is open: %v", text, fd, open)
				}
			}
			remove, _ := last("FDSTOREREMOVE")
			name, _ := last("FDNAME")
			named := 0
			for _, s := range n.files {
				if s.name == name {
					named++
				}
			}
			if remove == "1" && store != "1" && named != 0 || store == "1" && named < len(fds) {
				t.Errorf("%q: %d of the name are left", text, named)
			}
			if remove != "1" && store != "1" && len(n.files) != before {
				t.Errorf("%q: there are %d after %d", text, len(n.files), before)
			}
			before = len(n.files)
			if ready, _ := last("READY"); (len(n.ready) == 1) != (ready == "1") && text == first {
				t.Errorf("%q: ready %d", text, len(n.ready))
			}
		}
	})
}
