package stdio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// numbered is a text of so many bytes whose lines are all different.
func numbered(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d of the text\n", i)
	}
	return b.Bytes()[:size]
}

// printed has the process print; closed when it was let go.
func printed(child moss.ChildStdio, text []byte) <-chan struct{} {
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = child.Stdout.Write(text)
	}()
	return wrote
}

// soon waits for what must not hang.
func soon(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

// spills counts the files of the hub's that have no name any more.
func spills(t *testing.T, h *Hub) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.HasPrefix(to, h.cfg.Spill+"/") && strings.HasSuffix(to, "(deleted)") {
			n++
		}
	}
	return n
}

// The client of an exec that does not read holds the process up, but not its end.
func TestSlowExecClient(t *testing.T) {
	h, id := newHub(t, nil), newID()
	r, w := io.Pipe()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: w})
	child := openStream(t, h, id, moss.StdioSpec{OneClient: true}, nil)
	text := numbered(4 << 20)
	wrote := printed(child, text)
	select {
	case <-wrote:
		t.Error("4 MiB went into a client that does not read")
	case <-time.After(200 * time.Millisecond):
	}
	got := make([]byte, 3<<20)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, text[:len(got)]) {
		t.Errorf("client did not get what was written: %v", err)
	}
	soon(t, wrote, "the process")
	finish(t, h, id) // the client still has not read the rest
	go func() { _, _ = io.Copy(io.Discard, r) }()
	waitEnd(t, end, nil)
	child.Close()
}

// A container's client that does not read holds nothing up, whether it was
// there before the start or not, and gets everything in the end.
func TestSlowClient(t *testing.T) {
	h, id, sink := newHub(t, newMemStore()), newID(), &memSink{}
	r, w := io.Pipe()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: w})
	child := openStream(t, h, id, moss.StdioSpec{Persist: true}, sink)
	later, laterEnd := io.Pipe()
	end2 := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: laterEnd})
	text := numbered(8 << 20)
	soon(t, printed(child, text[:6<<20]), "the process, which has slow clients")
	if n := spills(t, h); n != 2 {
		t.Errorf("%d clients have output on disk, want 2", n)
	}
	got := make([]byte, 3<<20)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, text[:len(got)]) {
		t.Errorf("client did not get what was written: %v", err)
	}
	soon(t, printed(child, text[6<<20:]), "the process, while its client reads")
	finish(t, h, id)
	if sink.text(moss.Stdout) != string(text) {
		t.Error("log is not complete")
	}
	rest, err := readAll(r, len(text)-len(got))
	if err != nil || !bytes.Equal(rest, text[len(got):]) {
		t.Errorf("client did not get the rest: %v", err)
	}
	all, err := readAll(later, len(text))
	if err != nil || !bytes.Equal(all, text) {
		t.Errorf("the other client did not get all: %v", err)
	}
	waitEnd(t, end, nil)
	waitEnd(t, end2, nil)
	if n := spills(t, h); n != 0 {
		t.Errorf("%d files are left of clients that have read everything", n)
	}
	child.Close()
}

func readAll(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// Nothing is kept for a client that leaves, nor for one that is too far behind:
// that is told so. The process does not notice, and the other client neither.
func TestClientTooSlow(t *testing.T) {
	for name, c := range map[string]struct {
		most  int64
		spoil bool // the disk
	}{"bounded": {most: 2 << 20}, "no disk": {spoil: true}} {
		t.Run(name, func(t *testing.T) {
			h, id, sink := newHub(t, nil), newID(), &memSink{}
			h.most = c.most
			if c.spoil {
				h.cfg.Spill += "/missing"
			}
			r, w := io.Pipe()
			end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: w})
			child := openStream(t, h, id, moss.StdioSpec{}, sink)
			text := numbered(8 << 20)
			soon(t, printed(child, text), "the process, which has a slow client")
			if n := spills(t, h); n != 0 {
				t.Errorf("%d files are left of a client that is too far behind", n)
			}
			go func() { _, _ = io.Copy(io.Discard, r) }()
			select {
			case err := <-end:
				if err == nil || !strings.HasPrefix(err.Error(), "cannot go on with the client attached to") {
					t.Errorf("the slow client's end: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the client is not ended")
			}
			finish(t, h, id)
			if sink.text(moss.Stdout) != string(text) {
				t.Error("log is not complete")
			}
			child.Close()
		})
	}
}

func TestNothingKeptOfWhoLeaves(t *testing.T) {
	h, id := newHub(t, nil), newID()
	r, w := io.Pipe()
	defer r.Close()
	ctx, leave := context.WithCancel(t.Context())
	end := attach(t, ctx, h, id, moss.AttachIO{Stdout: w})
	child := openStream(t, h, id, moss.StdioSpec{}, nil)
	soon(t, printed(child, numbered(4<<20)), "the process")
	if n := spills(t, h); n != 1 {
		t.Errorf("%d files, want the client's", n)
	}
	leave()
	waitEnd(t, end, context.Canceled)
	if n := spills(t, h); n != 0 {
		t.Errorf("%d files are left of a client that has left", n)
	}
	finish(t, h, id)
	child.Close()
}

// ^C forgets what a terminal has not shown, as terminals do.
func TestInterruptForgetsBacklog(t *testing.T) {
	h, id := newHub(t, nil), newID()
	typed, keys := io.Pipe()
	r, w := io.Pipe()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: typed, Stdout: w})
	child := openStream(t, h, id, moss.StdioSpec{TTY: true, Stdin: true}, nil)
	slave := sendTerminal(t, child.ConsoleSocket)
	defer slave.Close()
	if err := h.Ready(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = slave.Write(numbered(6 << 20))
	}()
	soon(t, wrote, "the process on a terminal")
	_, _ = keys.Write([]byte("x\x03"))
	got := make(chan int)
	go func() {
		n, _ := io.Copy(io.Discard, r)
		got <- int(n)
	}()
	_ = keys.Close()
	finish(t, h, id)
	waitEnd(t, end, nil)
	_ = w.Close()
	if n := <-got; n > 2<<20 {
		t.Errorf("the client got %d bytes after ^C", n)
	}
}

// A box gives back what was put in, in order, however small its ring is: against
// a model that is a queue.
func TestBoxIsAQueue(t *testing.T) {
	for seed := range byte(5) {
		source := rand.NewChaCha8([32]byte{seed})
		rnd := rand.New(source)
		o := newOutbox()
		o.spillTo(disk{dir: t.TempDir(), most: 3<<20 + 8<<10 + int64(rnd.IntN(9999))})
		var want [][]byte
		total := 0
		take := func() {
			q := o.next()
			if len(q) == 0 {
				t.Fatalf("seed %d: %d chunks are lost: %v", seed, len(want), o.failure())
			}
			for _, c := range q {
				if !bytes.Equal(c.data, want[0]) {
					t.Fatalf("seed %d: a chunk of %d bytes in the place of one of %d", seed, len(c.data), len(want[0]))
				}
				total -= len(want[0])
				want = want[1:]
				o.wrote(c)
			}
		}
		for range 800 {
			if n := 1 + rnd.IntN(chunkSize); total+n < 3<<20 && rnd.IntN(5) > 0 {
				data := make([]byte, n)
				_, _ = source.Read(data)
				c := &chunk{kind: moss.Stdout, data: data}
				c.refs.Store(1)
				o.push(c)
				want = append(want, data)
				total += n
			} else if len(want) > 0 {
				take()
			}
		}
		o.end()
		for len(want) > 0 {
			take()
		}
		if q := o.next(); q != nil || o.failure() != nil || o.spill != nil || o.size != 0 {
			t.Errorf("seed %d: at the end %d chunks, %v, on disk %v, %d bytes", seed, len(q), o.failure(), o.spill, o.size)
		}
	}
}
