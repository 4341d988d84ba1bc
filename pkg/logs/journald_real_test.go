package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/logs/journal"
	"github.com/moss-containers/moss/pkg/moss"
)

// journaldContainer returns a container that logs to the machine's journal. It skips
// where the user has none; the rig of make test has one.
func journaldContainer(t testing.TB, opts map[string]string) *moss.Container {
	t.Helper()
	if _, err := os.Stat(journal.Socket); err != nil {
		t.Skipf("no journal here: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root has no journal of its own")
	}
	c := withDriver(t, driverJournald, opts)
	c.Name, c.ImageRef = "web-"+c.ID.Short(), "busybox:latest"
	return c
}

// openAny is open for a sink of any kind.
func openAny(t testing.TB, l *Logs, c *moss.Container) moss.LogSink {
	t.Helper()
	s, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func closeSink(t testing.TB, s moss.LogSink) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// journalctl returns the fields of a container's entries, as journalctl has them.
func journalctl(t testing.TB, match string) []map[string]any {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "journalctl", "--user", "--all", "--output=json", match).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for line := range bytes.Lines(out) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestJournaldFieldsAreDockers(t *testing.T) {
	c := journaldContainer(t, map[string]string{"tag": "{{.Name}}!", "labels": "app.name", "env": "COLOUR"})
	c.Config.Labels = map[string]string{"app.name": "shop\nfront"}
	c.Config.Env = []string{"COLOUR=red"}
	l := New()
	s := openAny(t, l, c)
	write(t, s, moss.Stdout, "one\n")
	write(t, s, moss.Stderr, "two\n\n")
	write(t, s, moss.Stdout, "half")
	closeSink(t, s)
	if got := all(t, l, c, query()); got != "one\ntwo\n\nhalf" {
		t.Errorf("read %q", got)
	}
	got := journalctl(t, "CONTAINER_NAME="+c.Name)
	if len(got) != 4 {
		t.Fatalf("journalctl has %d entries: %v", len(got), got)
	}
	for i, message := range []string{"one", "two", "", "half"} {
		want := map[string]any{
			"MESSAGE": message, "PRIORITY": "6", "SYSLOG_IDENTIFIER": c.Name + "!", "CONTAINER_TAG": c.Name + "!",
			"CONTAINER_ID": c.ID.Short(), "CONTAINER_ID_FULL": string(c.ID), "IMAGE_NAME": "busybox:latest",
			"COLOUR": "red", "APP_NAME": "shop\nfront",
		}
		if i == 1 || i == 2 {
			want["PRIORITY"] = "3"
		}
		if i == 3 {
			want["CONTAINER_PARTIAL_MESSAGE"] = "true"
		}
		for k, v := range want {
			if got[i][k] != v {
				t.Errorf("entry %d: %s is %q, want %q", i, k, got[i][k], v)
			}
		}
	}
	err := l.Read(t.Context(), c, query(), func(line moss.LogLine) error {
		if len(line.Attrs) != 2 || line.Attrs["APP_NAME"] != "shop\nfront" {
			t.Errorf("attributes %v", line.Attrs)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Text comes out as it went in: binary, very long, in any chunks, by daemons
// that were killed in between.
func TestJournaldText(t *testing.T) {
	var in bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	for range 100_000 {
		in.WriteByte(byte(rand.Uint32()))
	}
	in.WriteString("\n" + strings.Repeat("x", 1<<20) + "\n\x00\r\n\nend")
	text := in.String()
	c := journaldContainer(t, nil)
	l := New()
	s := openAny(t, l, c)
	for p := text; p != ""; {
		n := min(len(p), 1+rand.IntN(100_000))
		write(t, s, moss.Stdout, p[:n])
		if p = p[n:]; rand.IntN(3) == 0 {
			s = openAny(t, l, c) // as after kill -9: nobody closed the last one
		}
	}
	closeSink(t, s)
	if got := all(t, l, c, query()); got != text {
		t.Errorf("got %d bytes, want %d", len(got), len(text))
	}
	q := query()
	q.Tail = 3
	if got := all(t, l, c, q); got != "\x00\r\n\nend" {
		t.Errorf("tail: %.50q", got)
	}
	q.Tail = 0
	if got := all(t, l, c, q); got != "" {
		t.Errorf("tail 0: %.50q", got)
	}
}

func TestJournaldTimes(t *testing.T) {
	c := journaldContainer(t, nil)
	l := New()
	s := openAny(t, l, c)
	var marks []time.Time
	for i := range 6 {
		at := time.Now()
		marks = append(marks, at)
		if err := s.Write(moss.Stderr, at, []byte{byte('0' + i), '\n'}); err != nil {
			t.Fatal(err)
		}
	}
	q := query()
	q.Since, q.Until = marks[1], marks[3]
	if got := all(t, l, c, q); got != "1\n2\n3\n" {
		t.Errorf("got %q", got)
	}
	q.Follow = true
	if got := all(t, l, c, q); got != "1\n2\n3\n" {
		t.Errorf("follow: %q", got)
	}
	q.Stderr = false
	q.Until = time.Now().Add(50 * time.Millisecond)
	if got := all(t, l, c, q); got != "" {
		t.Errorf("stdout: %q", got)
	}
	var at []time.Time
	_ = l.Read(t.Context(), c, query(), func(l moss.LogLine) error { at = append(at, l.Time); return nil })
	if len(at) != 6 || !at[2].Equal(marks[2]) {
		t.Errorf("times %v, want %v", at, marks)
	}
}

func TestJournaldFollow(t *testing.T) {
	c := journaldContainer(t, nil)
	l := New()
	s := openAny(t, l, c)
	write(t, s, moss.Stdout, "0\n")
	const lines = 2000
	got := make(chan string, 1)
	seen := make(chan struct{}, lines)
	go func() {
		q := query()
		q.Follow = true
		var b strings.Builder
		if err := l.Read(context.WithoutCancel(t.Context()), c, q, func(line moss.LogLine) error {
			b.Write(line.Text)
			seen <- struct{}{}
			return nil
		}); err != nil {
			b.WriteString(err.Error())
		}
		got <- b.String()
	}()
	<-seen
	want := "0\n"
	for i := 1; i < lines; i++ {
		line := fmt.Sprintf("%d\n", i)
		want += line
		write(t, s, moss.Stdout, line)
	}
	closeSink(t, s)
	if g := <-got; g != want {
		t.Errorf("followed %d bytes, want %d", len(g), len(want))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Read(ctx, c, query(), func(moss.LogLine) error { return nil }); err == nil {
		t.Error("a cancelled reading succeeds")
	}
}

func BenchmarkJournald(b *testing.B) {
	c := journaldContainer(b, nil)
	l := New()
	s := openAny(b, l, c)
	p := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 655)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := s.Write(moss.Stdout, time.Now(), p); err != nil {
			b.Fatal(err)
		}
	}
}
