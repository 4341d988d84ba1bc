package sd

import (
	"io"
	"net"
	"os"
	"testing"
)

func TestRecorder(t *testing.T) {
	in := &Inherited{listeners: map[string][]net.Listener{}, files: map[string][]*os.File{}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lf, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Add("a.dns", lf); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Add("a.out", old); err != nil {
		t.Fatal(err)
	}
	if !in.Has("a.dns") || !in.Has("a.out") || in.Has("b.in") {
		t.Error("what is inherited is not known")
	}
	rec := NewRecorder(Store{Notifier: &Notifier{}, Inherited: in})
	contents := func() (names string) {
		all, err := rec.Contents()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			names += s.Name + " "
			if err := s.File.Close(); err != nil {
				t.Error(err)
			}
		}
		return names
	}
	if got := contents(); got != "" {
		t.Errorf("what nobody took is there: %s", got)
	}
	for _, f := range rec.Take("a.out") {
		defer f.Close()
	}
	for _, l := range rec.Listeners("a.dns") {
		defer l.Close()
	}
	if err := rec.Put("b.in", w, w); err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != "a.dns a.out b.in b.in " {
		t.Errorf("got %s", got)
	}
	if err := rec.Remove("b.in"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a removed file is still open: %v", err)
	}
	if got := contents(); got != "a.dns a.out " {
		t.Errorf("got %s", got)
	}
	// Whoever has the name next would get a socket that its user closes.
	if err := rec.Remove("a.dns"); err != nil {
		t.Fatal(err)
	}
	if all := rec.Listeners("a.dns"); len(all) != 0 || in.Has("a.dns") {
		t.Errorf("a removed socket is still to be had: %v", all)
	}
}
