package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/moss-containers/moss/pkg/moss"
)

func newContainer(t testing.TB, opts map[string]string) *moss.Container {
	t.Helper()
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Dir: t.TempDir()}
	c.Host.LogConfig = moss.LogConfig{Driver: "json-file", Options: opts}
	return c
}

func open(t testing.TB, l *Logs, c *moss.Container) *sink {
	t.Helper()
	s, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*sink)
}

func write(t testing.TB, s moss.LogSink, k moss.StreamKind, text string) {
	t.Helper()
	if err := s.Write(k, time.Now(), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// all is every line, as one string.
func all(t testing.TB, l *Logs, c *moss.Container, q moss.LogQuery) string {
	t.Helper()
	var b strings.Builder
	err := l.Read(t.Context(), c, q, func(l moss.LogLine) error { b.Write(l.Text); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func query() moss.LogQuery { return moss.LogQuery{Stdout: true, Stderr: true, Tail: -1} }

func TestFileIsDockers(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	s := open(t, l, c)
	at := time.Date(2024, 5, 6, 7, 8, 9, 120_000_000, time.FixedZone("x", 3600))
	_ = s.Write(moss.Stdout, at, []byte("a\t\"<&>\x01\n\xffb"))
	_ = s.Write(moss.Stderr, at, []byte("é\u2028\n"))
	b, err := os.ReadFile(Path(c))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"a\t\"\u003c\u0026\u003e\u0001\n","stream":"stdout","time":"2024-05-06T06:08:09.12Z"}
{"log":"\ufffdb","stream":"stdout","time":"2024-05-06T06:08:09.12Z"}
{"log":"é\u2028\n","stream":"stderr","time":"2024-05-06T06:08:09.12Z"}
`
	if string(b) != want {
		t.Errorf("got\n%s want\n%s", b, want)
	}
	st, err := os.Stat(Path(c))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// Text comes out as it went in, however it is cut into chunks.
func TestTextSurvivesAnyCut(t *testing.T) {
	text := strings.Repeat("héllo wörld — 日本語 🌱\nsecond\r\n\ttabs\x00\n", 50) + strings.Repeat("long🌱", 9000) + "\nend"
	for range 50 {
		l, c := New(), newContainer(t, nil)
		s := open(t, l, c)
		for p := text; p != ""; {
			n := min(len(p), 1+rand.IntN(1+rand.IntN(40000)))
			write(t, s, moss.Stdout, p[:n])
			p = p[n:]
		}
		if got := all(t, l, c, query()); got != text {
			t.Fatalf("got %d bytes, want %d", len(got), len(text))
		}
	}
}

func TestEscapesAreEncodingJSONs(t *testing.T) {
	for r := range rune(0x3000) {
		s := "a" + string(r) + "b"
		want, _ := json.Marshal(s)
		if got := `"` + string(appendText(nil, []byte(s))) + `"`; got != string(want) {
			t.Fatalf("%U: got %s, want %s", r, got, want)
		}
	}
}

func TestAllPlain(t *testing.T) {
	for c := range 256 {
		for i := range 8 {
			p := []byte("abcdefgh")
			p[i] = byte(c)
			if got := allPlain(binary.LittleEndian.Uint64(p)); got != plain[c] {
				t.Errorf("byte %#x at %d: %v", c, i, got)
			}
		}
	}
}

func TestTail(t *testing.T) {
	l, c := New(), newContainer(t, map[string]string{"max-size": "20k", "max-file": "4"})
	s := open(t, l, c)
	var lines []string
	for i := range 1000 {
		k, line := moss.Stdout, fmt.Sprintf("line %d\n", i)
		if i%3 == 0 {
			k = moss.Stderr
		}
		write(t, s, k, line[:3])
		write(t, s, k, line[3:])
		lines = append(lines, line)
	}
	if n := len(rotated(Path(c))); n != 3 {
		t.Fatalf("%d rotated files, want 3", n)
	}
	kept := all(t, l, c, query())
	if want := strings.Join(lines, ""); !strings.HasSuffix(want, kept) || len(kept) < len(want)/4 {
		t.Fatalf("kept %d of %d bytes", len(kept), len(want))
	}
	for _, n := range []int{0, 1, 2, 10, 150, 300, 100000} {
		q := query()
		q.Tail = n
		want := kept
		if have := strings.SplitAfter(strings.TrimSuffix(kept, "\n"), "\n"); n < len(have) {
			want = strings.Join(lines[len(lines)-n:], "")
		}
		if got := all(t, l, c, q); got != want {
			t.Errorf("tail %d: got %d bytes, want %d", n, len(got), len(want))
		}
	}
	q := query()
	q.Tail, q.Stdout = 2, false
	if got := all(t, l, c, q); got != "line 996\nline 999\n" {
		t.Errorf("tail of stderr: %q", got)
	}
}

func TestSinceUntil(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	s := open(t, l, c)
	base := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		at := base.Add(time.Duration(i) * time.Second)
		_ = s.Write(moss.Stdout, at, fmt.Appendf(nil, "%d", i))
		_ = s.Write(moss.Stdout, at.Add(2*time.Second), []byte("\n")) // the line's time is that of its beginning
	}
	q := query()
	q.Since, q.Until = base.Add(3*time.Second), base.Add(5*time.Second)
	if got := all(t, l, c, q); got != "3\n4\n5\n" {
		t.Errorf("got %q", got)
	}
	q.Follow = true // a past end needs no waiting
	if got := all(t, l, c, q); got != "3\n4\n5\n" {
		t.Errorf("follow: got %q", got)
	}
	q.Since, q.Until = base.Add(9*time.Second), time.Now().Add(30*time.Millisecond)
	if got := all(t, l, c, q); got != "9\n" {
		t.Errorf("follow: got %q", got)
	}
}

// A torn end is cut off when the log goes on, and passed over before.
func TestTornEnd(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	s := open(t, l, c)
	write(t, s, moss.Stdout, "one\n")
	_ = s.Close()
	f, _ := os.OpenFile(Path(c), os.O_APPEND|os.O_WRONLY, 0)
	_, _ = f.WriteString(`{"log":"` + strings.Repeat("x", 9000))
	_ = f.Close()
	if got := all(t, l, c, query()); got != "one\n" {
		t.Errorf("got %q", got)
	}
	q := query()
	q.Tail = 1
	if got := all(t, l, c, q); got != "one\n" {
		t.Errorf("tail: got %q", got)
	}
	s = open(t, l, c)
	write(t, s, moss.Stdout, "two\n")
	if got := all(t, l, c, query()); got != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestBadLinesArePassedOver(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	file := `{"log":"1\n","stream":"stdout","time":"2024-01-01T00:00:00Z"}
` + strings.Repeat("\x00", 3<<20) + `
{"log":"no stream\n"}

[]
{"attrs":{"k":"v"},"log":"2\n","stream":"stderr","time":"2024-01-01T00:00:00.5+01:00"}
`
	if err := os.WriteFile(Path(c), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tail := range []int{-1, 2, 5} {
		q := query()
		q.Tail = tail
		if got := all(t, l, c, q); got != "1\n2\n" {
			t.Errorf("tail %d: got %q", tail, got)
		}
	}
}

func TestRewind(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	s := open(t, l, c)
	write(t, s, moss.Stdout, "one\n")
	pos, err := s.Position()
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, moss.Stdout, "two\n")
	if err := s.Rewind(pos); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewind(pos + 1); err == nil {
		t.Error("went forward")
	}
	write(t, s, moss.Stderr, "three\n")
	if got := all(t, l, c, query()); got != "one\nthree\n" {
		t.Errorf("got %q", got)
	}
}

// A follower sees every line over rotations, in order, and ends with the run.
func TestFollow(t *testing.T) {
	for _, opts := range []map[string]string{
		nil, {"max-size": "64k", "max-file": "50"}, {"max-size": "64k", "max-file": "50", "compress": "true", "env": "A"},
	} {
		l, c := New(), newContainer(t, opts)
		s := open(t, l, c)
		write(t, s, moss.Stdout, "first\n")
		const lines = 20000
		got := make(chan error, 1)
		seen := make(chan struct{})
		go func() {
			n := -1
			q := query()
			q.Follow = true
			err := l.Read(t.Context(), c, q, func(line moss.LogLine) error {
				if n == -1 {
					close(seen)
				} else if want := fmt.Sprintf("%d\n", n); string(line.Text) != want {
					return fmt.Errorf("got %q, want %q", line.Text, want)
				}
				n++
				return nil
			})
			if err == nil && n != lines {
				err = fmt.Errorf("%d lines, want %d", n, lines)
			}
			got <- err
		}()
		<-seen
		for i := range lines {
			write(t, s, moss.Stdout, fmt.Sprintf("%d\n", i))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Errorf("%v: %v", opts, err)
		}
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	l, c := New(), newContainer(t, nil)
	s := open(t, l, c)
	write(t, s, moss.Stdout, "first\n")
	ctx, cancel := context.WithCancel(t.Context())
	q := query()
	q.Follow = true
	err := l.Read(ctx, c, q, func(moss.LogLine) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	l := New()
	for _, k := range []struct {
		driver, opt, value string
		want               string
	}{
		{"json-file", "max-size", "10m", ""},
		{"json-file", "max-size", "1.5GB", ""},
		{"json-file", "max-size", "lots", "invalid size: 'lots': max-size must be a positive number"},
		{"json-file", "max-size", "-1", "invalid size: '-1'"},
		{"local", "max-size", "-1", "invalid size: '-1'"},
		{"json-file", "max-size", "0", "max-size must be a positive number"},
		{"syslog", "cache-max-size", "-1", "invalid size: '-1': cache-max-size must"},
		{"json-file", "max-size", "-2", "invalid size: '-2'"},
		{"json-file", "max-size", "nan", "max-size must be"},
		{"json-file", "max-file", "0", "max-file cannot be less than 1"},
		{"local", "max-file", "x", "invalid value for max-file: 'x'"},
		{"json-file", "tag", "{{.Name}}/{{.ID}}", ""},
		{"json-file", "tag", "{{.Colour}}", "cannot be filled in"},
		{"json-file", "tag", "{{", "is no template"},
		{"json-file", "labels-regex", "(", "no regular expression"},
		{"json-file", "compress", "false", ""},
		{"json-file", "compress", "true", "max-file is less than 2"},
		{"json-file", "compress", "perhaps", "invalid boolean value for compress"},
		{"json-file", "mode", "blocking", ""},
		{"json-file", "mode", "non-blocking", ""},
		{"json-file", "mode", "quick", "logging mode not supported"},
		{"json-file", "max-buffer-size", "1m", "only supported with 'mode=non-blocking'"},
		{"local", "max-file", "1", ""},
		{"local", "compress", "true", ""},
		{"local", "tag", "x", "unknown log opt 'tag' for local log driver"},
		{"json-file", "colour", "red", "unknown log opt 'colour' for json-file log driver"},
		{"none", "max-size", "1m", "unknown log opt"},
		{"splunk", "", "", "logger: no log driver named 'splunk' is registered"},
	} {
		c := moss.LogConfig{Driver: k.driver}
		if k.opt != "" {
			c.Options = map[string]string{k.opt: k.value}
		}
		err := l.Check(c)
		if (err == nil) != (k.want == "") || err != nil && !strings.Contains(err.Error(), k.want) {
			t.Errorf("%+v: %v", k, err)
		}
	}
}

func TestOptionsOfSize(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "10k": 10_000, "10m": 10_000_000, "1.5GB": 1_500_000_000, "2 kb": 2000} {
		if got, err := parseSize("max-size", s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\u00e9\ud83c\udf31\udce2\n","stream":"stderr","time":"2024-01-01T00:00:00.123Z"}`))
	f.Add([]byte(`{"log":"\"\\","stream":"stdout","time":"2024-01-01T00:00:00+02:00"}`))
	f.Add([]byte(`{"log":"","stream":"stdout","time":"0000-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var d jsonDecoder
		e, ok := d.fast(line)
		s, _, sok := slow(line)
		if ok && !sok && json.Valid(line) && !e.at.IsZero() {
			t.Fatalf("fast took %q, slow did not", line)
		}
		if ok && sok && utf8.Valid(line) && !bytes.Contains(bytes.ToLower(line), []byte(`\udc`)) {
			if !bytes.Equal(e.text, s.text) || !e.at.Equal(s.at) || e.stream != s.stream {
				t.Fatalf("fast %+v, slow %+v", e, s)
			}
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte("héllo\xe2\x82"), 3)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		if cut < 0 || cut > len(p) {
			return
		}
		b := appendChunk(nil, moss.Stdout, time.Unix(1, 0), p[:cut], nil)
		b = appendChunk(b, moss.Stdout, time.Unix(1, 0), p[cut:], nil)
		var d jsonDecoder
		var got []byte
		for line := range bytes.Lines(b) {
			if !json.Valid(line) {
				t.Fatalf("not JSON: %q", line)
			}
			e, ok := d.fast(line[:len(line)-1])
			if !ok {
				t.Fatalf("cannot decode %q", line)
			}
			got = append(got, e.text...)
		}
		if utf8.Valid(p) && !bytes.Equal(got, p) {
			t.Fatalf("got %q, want %q", got, p)
		}
	})
}

func BenchmarkSink(b *testing.B) {
	line := []byte(strings.Repeat("x", 99) + "\n")
	for _, lines := range []int{1, 655} {
		b.Run(fmt.Sprintf("%dlines", lines), func(b *testing.B) {
			l, c := New(), newContainer(b, map[string]string{"max-size": "200m"})
			s := open(b, l, c)
			p := bytes.Repeat(line, lines)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if err := s.Write(moss.Stdout, time.Now(), p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	p := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 655)
	b.SetBytes(int64(len(p)))
	var buf []byte
	for b.Loop() {
		buf = appendChunk(buf[:0], moss.Stdout, time.Now(), p, nil)
	}
}

func BenchmarkRead(b *testing.B) {
	l, c := New(), newContainer(b, nil)
	s := open(b, l, c)
	p := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 655)
	for range 200 {
		write(b, s, moss.Stdout, string(p))
	}
	b.SetBytes(int64(len(p) * 200))
	for b.Loop() {
		if err := l.Read(b.Context(), c, query(), func(moss.LogLine) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
