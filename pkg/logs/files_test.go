package logs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func withDriver(t testing.TB, driver string, opts map[string]string) *moss.Container {
	t.Helper()
	c := newContainer(t, opts)
	c.Host.LogConfig.Driver = driver
	return c
}

// packedAll waits until what was rotated is compressed.
func packedAll(s *sink) { s.packers.Wait() }

func TestRotatedAreCompressed(t *testing.T) {
	for _, driver := range []string{"json-file", "local"} {
		t.Run(driver, func(t *testing.T) {
			l, c := New(), withDriver(t, driver, map[string]string{"max-size": "20k", "max-file": "4", "compress": "true"})
			s := open(t, l, c)
			var want []string
			for i := range 3000 {
				line := fmt.Sprintf("line %d\n", i)
				write(t, s, moss.Stdout, line)
				want = append(want, line)
			}
			packedAll(s)
			files := rotated(Path(c))
			if len(files) != 3 {
				t.Fatalf("rotated files: %v", files)
			}
			for _, f := range files {
				if !strings.HasSuffix(f, ".gz") {
					t.Errorf("%s is not compressed", f)
				}
			}
			kept := all(t, l, c, query())
			if !strings.HasSuffix(strings.Join(want, ""), kept) || len(kept) < 3000 {
				t.Fatalf("kept %d bytes", len(kept))
			}
			n := strings.Count(kept, "\n")
			for _, tail := range []int{0, 1, 100, n - 1, n, n + 5} {
				q := query()
				q.Tail = tail
				if got := all(t, l, c, q); got != strings.Join(want[len(want)-min(tail, n):], "") {
					t.Errorf("tail %d: %d lines", tail, strings.Count(got, "\n"))
				}
			}
			if err := l.Remove(c); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Dir(Path(c))); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A daemon killed at any step of a compression leaves a log that is whole.
func TestKilledWhileCompressing(t *testing.T) {
	l, c := New(), withDriver(t, "local", map[string]string{"max-size": "10k", "max-file": "3"})
	s := open(t, l, c)
	for i := range 500 {
		write(t, s, moss.Stdout, fmt.Sprintf("line number %d\n", i))
	}
	packedAll(s)
	want := all(t, l, c, query())
	_ = s.Close()
	path := Path(c)
	first, err := os.Open(path + ".1.gz")
	if err != nil {
		t.Fatal(err)
	}
	f, err := logFile{File: first, packed: true}.plain()
	if err != nil {
		t.Fatal(err)
	}
	plain := new(bytes.Buffer)
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	// Both are there, and a third that was never finished.
	for name, data := range map[string][]byte{".1": plain.Bytes(), unready: []byte("half")} {
		if err := os.WriteFile(path+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := all(t, l, c, query()); got != want {
		t.Errorf("before: %d bytes, want %d", len(got), len(want))
	}
	s = open(t, l, c)
	packedAll(s)
	if got := all(t, l, c, query()); got != want {
		t.Errorf("after: %d bytes, want %d", len(got), len(want))
	}
	for _, gone := range []string{".1", unready} {
		if _, err := os.Stat(path + gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	// What is damaged is read as far as it goes.
	b, _ := os.ReadFile(path + ".1.gz")
	if err := os.WriteFile(path+".1.gz", b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := all(t, l, c, query()); !strings.HasSuffix(got, "line number 499\n") {
		t.Errorf("damaged: got %d bytes", len(got))
	}
}

func TestAttributes(t *testing.T) {
	l, c := New(), withDriver(t, "json-file", map[string]string{
		"tag": "{{.Name}}/{{.ImageName}}/{{.ID}}", "labels": "a,none", "labels-regex": "^app\\.", "env": "COLOUR", "env-regex": "^X_",
	})
	c.Name, c.ImageRef, c.ID = "web", "busybox", "0123456789abcdef"
	c.Config.Labels = map[string]string{"a": "<1>", "b": "2", "app.x": "3"}
	c.Config.Env = []string{"COLOUR=red", "X_Y=z", "OTHER=o", "EMPTY"}
	s := open(t, l, c)
	at := time.Unix(1700000000, 0)
	if err := s.Write(moss.Stdout, at, []byte("hi\n")); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(Path(c))
	want := `{"log":"hi\n","stream":"stdout","attrs":{"COLOUR":"red","X_Y":"z","a":"\u003c1\u003e","app.x":"3","tag":"web/busybox/0123456789ab"},"time":"2023-11-14T22:13:20Z"}` + "\n"
	if string(b) != want {
		t.Errorf("got  %swant %s", b, want)
	}
	write(t, s, moss.Stderr, "again\n")
	n := 0
	err := l.Read(t.Context(), c, query(), func(line moss.LogLine) error {
		n++
		if len(line.Attrs) != 5 || line.Attrs["a"] != "<1>" {
			t.Errorf("line %d: %v", n, line.Attrs)
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Errorf("%d lines, %v", n, err)
	}
}

// slowSink takes a chunk each time it is let.
type slowSink struct {
	let chan struct{}
	mu  sync.Mutex
	got [3]strings.Builder
	err error
}

func (s *slowSink) Write(kind moss.StreamKind, _ time.Time, p []byte) error {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[kind].Write(p)
	return s.err
}

func (s *slowSink) Close() error { return nil }

func TestRingDropsWholeLines(t *testing.T) {
	for range 200 {
		slow := &slowSink{let: make(chan struct{})}
		r := newRing(slow, 300)
		var want strings.Builder
		for i := range 200 {
			line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", rand.IntN(40)))
			want.WriteString(line)
			for line != "" {
				n := 1 + rand.IntN(len(line))
				write(t, r, moss.Stdout, line[:n])
				line = line[n:]
			}
		}
		close(slow.let)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for l := range strings.Lines(slow.got[moss.Stdout].String()) {
			// The line before the gap may lack its end.
			if !strings.Contains(want.String(), strings.TrimSuffix(l, "\n")) || !strings.HasPrefix(l, "line ") && !strings.HasPrefix("line ", strings.TrimSuffix(l, "\n")) {
				t.Fatalf("a line that nobody printed: %q", l)
			}
			lines++
		}
		told := slow.got[moss.Stderr].String()
		if lines >= 200 || !strings.Contains(told, "were dropped here") {
			t.Fatalf("%d lines, told: %q", lines, told)
		}
	}
}

func TestRingLosesNothingInTime(t *testing.T) {
	l, c := New(), newContainer(t, map[string]string{"mode": "non-blocking", "max-buffer-size": "64m"})
	s, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 5000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		write(t, s, moss.Stdout, line)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, l, c, query()); got != want.String() {
		t.Errorf("%d bytes, want %d", len(got), want.Len())
	}
	if err := s.Write(moss.Stdout, time.Now(), []byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
	failing := &slowSink{let: make(chan struct{}), err: errors.New("disk full")}
	close(failing.let)
	r := newRing(failing, 100)
	write(t, r, moss.Stdout, "x")
	if err := r.Close(); err == nil || err.Error() != "disk full" {
		t.Errorf("the sink's error: %v", err)
	}
}

func FuzzCompact(f *testing.F) {
	f.Add([]byte("a\nb"), 1, int64(1))
	f.Add([]byte(strings.Repeat("x", 40000)), 20000, int64(-5))
	f.Fuzz(func(t *testing.T, p []byte, cut int, nanos int64) {
		if cut < 0 || cut > len(p) {
			return
		}
		at := time.Unix(0, nanos)
		b := compact{}.append(nil, moss.Stdout, at, p[:cut])
		b = compact{}.append(b, moss.Stderr, at, p[cut:])
		var got [3][]byte
		d := compact{}.decoder()
		for line := range bytes.Lines(b) {
			e, ok := d.decode(line[:len(line)-1])
			if !ok || !e.at.Equal(at) {
				t.Fatalf("%q: %+v, %v", line, e, ok)
			}
			got[e.stream] = append(got[e.stream], e.text...)
		}
		if !bytes.Equal(got[1], p[:cut]) || !bytes.Equal(got[2], p[cut:]) {
			t.Fatalf("got %q and %q", got[1], got[2])
		}
	})
}

func FuzzCompactDecode(f *testing.F) {
	f.Add([]byte("o0000018bcfe56800 text"))
	f.Add([]byte("E0000018bcfe56800 "))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		e, ok := compact{}.decoder().decode(line)
		if !ok || len(e.text) == 0 || len(e.text) > maxText {
			return
		}
		if b := (compact{}).append(nil, e.stream, e.at, e.text); !bytes.Equal(b, append(line, '\n')) {
			t.Fatalf("%q became %q", line, b)
		}
	})
}

// The time of a file lags behind that of its entries by the tick of the kernel's clock.
func TestSinceTheEndOfARotatedFile(t *testing.T) {
	l, c := New(), withDriver(t, "json-file", map[string]string{"max-size": "1k", "max-file": "9"})
	s := open(t, l, c)
	first := time.Now()
	want := ""
	for i := range 40 {
		line := fmt.Sprintf("line %d of those that fill files\n", i)
		if err := s.Write(moss.Stdout, first, []byte(line)); err != nil {
			t.Fatal(err)
		}
		want += line
	}
	files := rotated(Path(c))
	if len(files) < 3 {
		t.Fatalf("rotated files: %v", files)
	}
	for _, f := range files {
		if err := os.Chtimes(f, first, first.Add(-4*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	q := query()
	q.Since = first
	if got := all(t, l, c, q); got != want {
		t.Errorf("%d lines of 40", strings.Count(got, "\n"))
	}
}
