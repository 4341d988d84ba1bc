package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// farLog is a log plugin "far" in this process.
type farLog struct {
	mu      sync.Mutex
	reads   bool
	deaf    bool // it opens no FIFO
	dead    bool
	fifo    *os.File
	entries chan moss.LogLine
	calls   chan string
	kept    bytes.Buffer // for ReadLogs
}

func newFarLog() *farLog {
	return &farLog{entries: make(chan moss.LogLine, 10000), calls: make(chan string, 1000)}
}

func (f *farLog) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func (f *farLog) Call(_ context.Context, c moss.PluginCall) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Plugin != "far" {
		return moss.Errorf(moss.NotFound, "plugin %q not found", c.Plugin)
	}
	if f.dead {
		return moss.Errorf(moss.Unavailable, "it is dead")
	}
	var in struct {
		File string
		Info struct {
			ContainerID string
			Config      map[string]string
		}
	}
	text, err := json.Marshal(c.In)
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return err
	}
	answer := map[string]any{}
	method := strings.TrimPrefix(c.Method, "LogDriver.")
	switch method {
	case "Capabilities":
		answer["Cap"] = map[string]bool{"ReadLogs": f.reads}
	case "StartLogging":
		if in.Info.Config["fail"] != "" {
			answer["Err"] = in.Info.Config["fail"]
			break
		}
		if !f.deaf {
			go f.receive(in.File)
		}
	}
	if method != "Capabilities" {
		f.calls <- method
	}
	if c.Out == nil {
		return nil
	}
	text, err = json.Marshal(answer)
	return errors.Join(err, json.Unmarshal(text, c.Out))
}

func (f *farLog) receive(path string) {
	r, err := os.Open(path)
	if err != nil {
		return
	}
	f.set(func() { f.fifo = r })
	_ = readEntries(context.Background(), r, moss.LogQuery{Stdout: true, Stderr: true}, func(l moss.LogLine) error {
		f.entries <- l
		return nil
	})
	_ = r.Close()
	f.calls <- "end"
}

func (f *farLog) Stream(_ context.Context, _ moss.PluginCall) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.kept.Bytes())), nil
}

func farContainer(t *testing.T, options map[string]string) *moss.Container {
	return &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: "web", Dir: t.TempDir(), State: moss.StateCreated, Host: moss.HostConfig{LogConfig: moss.LogConfig{Driver: "far", Options: options}}}
}

func openFarLog(t *testing.T, f *farLog) (*Logs, string) {
	l, dir := New(), t.TempDir()
	l.UsePlugins(f, dir)
	return l, dir
}

func (f *farLog) next(t *testing.T, want string) {
	t.Helper()
	l := <-f.entries
	if got := fmt.Sprintf("%s %v", l.Text, l.Partial); got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestPluginLog(t *testing.T) {
	f := newFarLog()
	l, dir := openFarLog(t, f)
	for name, want := range map[string]string{"far": "", "near": "no log driver named 'near' is registered"} {
		if err := l.Check(moss.LogConfig{Driver: name, Options: map[string]string{"any": "x"}}); fmt.Sprint(err) != "<nil>" != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Open(farContainer(t, map[string]string{"fail": "no room"})); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	<-f.calls
	c := farContainer(t, map[string]string{"any": "x"})
	sink, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(7, 8)
	long := strings.Repeat("x", maxText+3)
	for kind, text := range []string{moss.Stdout: "one\ntwo\n", moss.Stderr: long + "\n"} {
		if text == "" {
			continue
		}
		if err := sink.Write(moss.StreamKind(kind), at, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	f.next(t, "one\n false")
	f.next(t, "two\n false")
	f.next(t, long[:maxText]+" true")
	f.next(t, "xxx\n false")
	// the cache has it, for a plugin that cannot read
	var lines []string
	if err := l.Read(t.Context(), c, moss.LogQuery{Stdout: true, Tail: -1}, func(l moss.LogLine) error { lines = append(lines, string(l.Text)); return nil }); err != nil || !slices.Equal(lines, []string{"one\n", "two\n"}) {
		t.Errorf("%q %v", lines, err)
	}
	if err := sink.Write(moss.Stdout, at, []byte("the end")); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	f.next(t, "the end true")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestPluginLogBack has a plugin that goes and comes back: it is told of a new FIFO,
// and what was logged meanwhile is there.
func TestPluginLogBack(t *testing.T) {
	f := newFarLog()
	l, _ := openFarLog(t, f)
	sink, err := l.Open(farContainer(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := sink.Write(moss.Stdout, time.Unix(1, 0), []byte(text+"\n")); err != nil {
			t.Error(err)
		}
	}
	write("first")
	f.next(t, "first\n false")
	write("second") // from here on the plugin's end is noticed
	f.next(t, "second\n false")
	f.set(func() { f.dead = true; _ = f.fifo.Close() })
	write("third")
	write("fourth")
	f.set(func() { f.dead = false })
	f.next(t, "third\n false")
	f.next(t, "fourth\n false")
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
}

// TestPluginLogDeaf has a plugin that does not read: nobody waits for it for long.
func TestPluginLogDeaf(t *testing.T) {
	f := newFarLog()
	f.deaf = true
	l, dir := openFarLog(t, f)
	c := farContainer(t, map[string]string{"cache-disabled": "true"})
	sink, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 9999) + "\n")
	var dropped int
	for range 500 { // a writer that waits each time waits for eight minutes
		if err := sink.Write(moss.Stdout, time.Unix(1, 0), line); err != nil {
			dropped++
		}
	}
	if dropped == 0 {
		t.Error("5 MB found room")
	}
	if err := sink.Close(); err == nil {
		t.Error("nothing is said of what was lost")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

func TestPluginLogRead(t *testing.T) {
	f := newFarLog()
	f.reads = true
	l, _ := openFarLog(t, f)
	for i, text := range []string{"one", "two", "three"} {
		f.kept.Write(appendEntry(nil, &message{kind: moss.Stdout, at: time.Unix(int64(i), 0), text: []byte(text)}))
	}
	f.kept.Write(appendEntry(nil, &message{kind: moss.Stderr, at: time.Unix(9, 0), text: []byte("bad"), part: partial{id: "a", ordinal: 1}}))
	read := func(q moss.LogQuery) (out []string) {
		t.Helper()
		err := l.Read(t.Context(), farContainer(t, nil), q, func(l moss.LogLine) error {
			out = append(out, fmt.Sprintf("%d %s %v", l.Stream, l.Text, l.Partial))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return out
	}
	if got := read(moss.LogQuery{Stdout: true, Stderr: true, Tail: -1}); len(got) != 4 || got[0] != fmt.Sprintf("%d one\n false", moss.Stdout) || got[3] != fmt.Sprintf("%d bad true", moss.Stderr) {
		t.Errorf("%q", got)
	}
	if got := read(moss.LogQuery{Stdout: true, Since: time.Unix(1, 0), Until: time.Unix(1, 5), Tail: -1}); len(got) != 1 {
		t.Errorf("%q", got)
	}
	f.reads = false
	if err := l.Read(t.Context(), farContainer(t, nil), moss.LogQuery{}, nil); moss.ClassOf(err) != moss.NotImplemented || err == nil {
		t.Error(err)
	}
}

func FuzzPluginEntry(f *testing.F) {
	f.Add(appendEntry(nil, &message{kind: moss.Stderr, at: time.Unix(1, 2), text: []byte("text"), part: partial{id: "a", ordinal: 300, last: true}}))
	f.Add([]byte{0, 0, 0, 3, 8, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = readEntries(context.Background(), bytes.NewReader(b), moss.LogQuery{Stdout: true, Stderr: true}, func(moss.LogLine) error { return nil })
	})
}
