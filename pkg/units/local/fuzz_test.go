package local

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
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

// FuzzRequest: whatever a client sends, it gets one answer that can be read, with
// words where it is refused, and no file that came along stays open. What would start
// a program is looked at instead: it names a container, and files and streams match.
func FuzzRequest(f *testing.F) {
	const id = `"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`
	f.Add([]byte(`{"Op":"start","Streams":[0,2],"Spec":{"ID":`+id+`,"Args":["/bin/true"],"PIDFile":"/run/x"}}`), uint8(2))
	f.Add([]byte(`{"Op":"start","Streams":[1,1],"Spec":{"ID":"../../../../tmp","Args":[""],"PIDFile":"etc"}}`), uint8(2))
	f.Add([]byte(`{"Op":"hold","Hold":{"ID":"0123456789ab","Args":["x"]}}`), uint8(1))
	f.Add([]byte(`{"Op":"kill","ID":`+id+`,"Signal":9}`), uint8(0))
	f.Add([]byte(`{"Op":"kill","ID":"","Signal":-1}`), uint8(3))
	for _, o := range []op{opCollect, opStop, opFreeze, opThaw, opRelease, opHeld, opList, opWatch, opState, `\u001b`, op(strings.Repeat(`\u0001`, 20<<10))} {
		f.Add([]byte(`{"Op":"`+string(o)+`","ID":`+id+`}`), uint8(1))
	}
	f.Add([]byte(`null`), uint8(0))
	f.Add([]byte(`{`), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, files uint8) {
		var r request
		broken := len(text) > mostMessage || json.Unmarshal(text, &r) != nil
		n := int(files % 4)
		if len(text) > 150<<10 {
			return // more than a socket takes
		}
		if !broken && r.check(n) == nil && (r.Op == opStart || r.Op == opHold || r.Op == opWatch) {
			accepted(t, r, n)
			return
		}
		pipe := make([]int, 2)
		if err := unix.Pipe2(pipe, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[0])
		fds := make([]int, n)
		for i := range fds {
			fds[i] = pipe[1]
		}
		client, server := packets(t)
		_, _, err := client.WriteMsgUnix(text, unix.UnixRights(fds...), nil)
		_ = unix.Close(pipe[1])
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{log: slog.New(slog.DiscardHandler), units: map[string]*unit{}, entries: map[string]*entrance{}, children: map[int]func(wstatus){}, changed: make(chan struct{})}
		s.answer(t.Context(), server)
		_ = server.Close()
		if got, err := unix.Read(pipe[0], make([]byte, 1)); got != 0 || err != nil {
			t.Errorf("%q: a file that came along is open (%v)", text, err)
		}
		a, err := answers(t.Context(), client)
		if broken || len(text) == 0 {
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%q is answered: %+v, %v", text, a, err)
			}
			return
		}
		if said := a.err(); (err == nil) != (said == nil) || err != nil && err.Error() != a.Error {
			t.Errorf("%.200q has no answer: %v", text, err)
		}
		if refused := r.check(n); refused != nil && moss.ClassOf(err) != moss.ClassOf(refused) {
			t.Errorf("%.200q is refused by %v, not %v", text, err, refused)
		}
		if len(a.Error) > 8<<10 || strings.ContainsFunc(a.Error, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%.200q is refused by %d bytes: %.200q", text, len(a.Error), a.Error)
		}
		if len(s.units)+len(s.entries)+len(s.children) > 0 {
			t.Errorf("%q has begun something", text)
		}
	})
}

// accepted looks at a request that a server would do.
func accepted(t *testing.T, r request, files int) {
	again, err := json.Marshal(r)
	var back request
	if err == nil {
		err = json.Unmarshal(again, &back)
	}
	if err != nil || back.check(files) != nil || !reflect.DeepEqual(back.Streams, r.Streams) && len(r.Streams) > 0 {
		t.Errorf("%+v is sent on as %s, %v", r, again, err)
	}
	var id moss.ContainerID
	switch r.Op {
	case opStart:
		id = r.Spec.ID
		seen := map[int]bool{}
		for _, n := range r.Streams {
			seen[n] = n >= 0 && n <= 2
		}
		if len(seen) != files || seen[-1] || len(r.Spec.Args) == 0 || !filepath.IsAbs(r.Spec.PIDFile) {
			t.Errorf("%d files are for the streams of %s", files, again)
		}
	case opHold:
		if id = r.Hold.ID; files == 0 || len(r.Hold.Args) == 0 {
			t.Errorf("%d files are for %s", files, again)
		}
	default:
		return
	}
	if g := (groups{dir: "/x", prefix: "moss"}).of(id.Short()); filepath.Dir(g) != "/x" || len(filepath.Base(g)) != len("moss-0123456789ab.service") {
		t.Errorf("the cgroup of %s is %s", again, g)
	}
}

// packets is a connection of messages.
func packets(t *testing.T) (a, b *net.UnixConn) {
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
