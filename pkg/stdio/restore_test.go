package stdio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRestorePipes(t *testing.T) {
	store := newMemStore()
	h, id := newHub(t, store), newID()
	spec := moss.StdioSpec{Stdin: true, Persist: true}
	child := openStream(t, h, id, spec, &memSink{})
	defer child.Close()
	h = Kill(t, h)
	store = h.store.(*memStore)
	_, _ = io.WriteString(child.Stdout, "in between")

	sink := &memSink{}
	if err := h.Restore(t.Context(), id, spec, sink); err != nil {
		t.Fatal(err)
	}
	if names := store.Names(); len(names) != 0 {
		t.Errorf("not taken: %v", names)
	}
	r, w := io.Pipe()
	var out syncBuffer
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: r, Stdout: &out})
	_, _ = io.WriteString(w, "typed")
	got := make([]byte, 5)
	if _, err := io.ReadFull(child.Stdin, got); err != nil || string(got) != "typed" {
		t.Errorf("process read %q, %v", got, err)
	}
	_, _ = io.WriteString(child.Stderr, "later")
	finish(t, h, id)
	waitEnd(t, end, nil)
	if sink.text(moss.Stdout) != "in between" || sink.text(moss.Stderr) != "later" {
		t.Errorf("log got %q and %q", sink.text(moss.Stdout), sink.text(moss.Stderr))
	}
	if n := store.count(); n != 0 {
		t.Errorf("%d ends left in the store", n)
	}
}

func TestRestoreWhatIsMissing(t *testing.T) {
	store := newMemStore()
	h, id := newHub(t, store), newID()
	spec := moss.StdioSpec{Persist: true}
	child := openStream(t, h, id, spec, &memSink{})
	defer child.Close()
	_ = store.Remove(string(id) + endErr)
	h = Kill(t, h)
	sink := &memSink{}
	if err := h.Restore(t.Context(), id, spec, sink); err == nil {
		t.Error("no error for a missing end")
	}
	_, _ = io.WriteString(child.Stdout, "still pumped")
	finish(t, h, id)
	if got := sink.text(moss.Stdout); got != "still pumped" {
		t.Errorf("log got %q", got)
	}
}

func TestForget(t *testing.T) {
	store := newMemStore()
	h, old, kept := newHub(t, store), newID(), newID()
	for _, id := range []moss.StreamID{old, kept} {
		child := openStream(t, h, id, moss.StdioSpec{Persist: true}, &memSink{})
		defer child.Close()
	}
	h2 := Kill(t, h)
	if err := h2.Forget(map[moss.StreamID]bool{kept: true}); err != nil {
		t.Fatal(err)
	}
	if n := h2.store.(*memStore).count(); n != 3 {
		t.Errorf("%d ends in the store, want the 3 of one stream", n)
	}
	if _, err := os.Stat(h2.markPath(old)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mark of the old stream: %v", err)
	}
	if _, err := os.Stat(h2.markPath(kept)); err != nil {
		t.Error(err)
	}
}

// rewindSink is a log that can be rewound.
type rewindSink struct{ memSink }

func (s *rewindSink) Position() (int64, error) { return int64(s.out[moss.Stdout].Len()), nil }
func (s *rewindSink) Rewind(pos int64) error   { s.out[moss.Stdout].Truncate(int(pos)); return nil }

// Each instant at which a daemon may be killed, as it finds it afterwards.
func TestReplay(t *testing.T) {
	for name, k := range map[string]struct {
		stash string
		log   string
		pos   int64
		rest  int64
		want  string
	}{
		"before the log":               {"chunk", "old ", 4, -1, "old chunk"},
		"in the middle of the log":     {"chunk", "old ch", 4, -1, "old chunk"},
		"logged, not noted":            {"chunk", "old chunk", 4, -1, "old chunk"},
		"logged and noted":             {"chunk", "old chunk", 4, 0, "old chunk"},
		"half taken out":               {"nk", "old chunk", 4, 0, "old chunk"},
		"first part logged":            {"chunk", "old ch", 4, 3, "old chunk"},
		"first part half taken out":    {"hunk", "old ch", 4, 3, "old chunk"},
		"first part taken out":         {"unk", "old ch", 4, 3, "old chunk"},
		"position not known":           {"chunk", "old ", -1, -1, "old chunk"},
		"empty, mark of an old chunk":  {"", "old chunk", 4, 0, "old chunk"},
		"empty, mark of the next":      {"", "old chunk", 9, -1, "old chunk"},
		"as large as a pipe, repeated": {string(make([]byte, chunkSize)), "", 0, -1, string(make([]byte, chunkSize))},
	} {
		dir := t.TempDir()
		fd, err := bothWays()
		if err != nil {
			t.Fatal(err)
		}
		if k.stash != "" {
			if _, err := unix.Write(fd, []byte(k.stash)); err != nil {
				t.Fatal(err)
			}
		}
		m, err := openMark(dir+"/m", true)
		if err != nil {
			t.Fatal(err)
		}
		m.pos.Store(k.pos)
		m.stream.Store(int64(moss.Stdout))
		m.rest.Store(k.rest)
		_ = m.close()
		sink := &rewindSink{}
		sink.out[moss.Stdout].WriteString(k.log)
		j, err := openJournal(dir+"/m", os.NewFile(uintptr(fd), "stash"), sink, &scratches{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := sink.text(moss.Stdout); got != k.want {
			t.Errorf("%s: log has %q, want %q", name, got, k.want)
		}
		if n, _ := pending(j.stash); n != 0 {
			t.Errorf("%s: %d bytes left in the stash", name, n)
		}
		_ = j.close()
	}
}
