package stdio

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// memSink is a log.
type memSink struct {
	mu     sync.Mutex
	out    [3]bytes.Buffer
	closed int
	fail   error
}

func (s *memSink) Write(k moss.StreamKind, _ time.Time, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out[k].Write(p)
	return s.fail
}

func (s *memSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *memSink) text(k moss.StreamKind) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out[k].String()
}

// syncBuffer is a client's writer.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// attach starts an attachment; its end comes out of the channel.
func attach(t testing.TB, ctx context.Context, h *Hub, id moss.StreamID, a moss.AttachIO) <-chan error {
	t.Helper()
	attached, end := make(chan struct{}), make(chan error, 1)
	go func() { end <- h.Attach(ctx, id, a, func() { close(attached) }) }()
	<-attached
	return end
}

func openStream(t testing.TB, h *Hub, id moss.StreamID, spec moss.StdioSpec, sink moss.LogSink) moss.ChildStdio {
	t.Helper()
	child, err := h.Open(t.Context(), id, spec, sink)
	if err != nil {
		t.Fatal(err)
	}
	if !spec.TTY {
		if err := h.Ready(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return child
}

func finish(t testing.TB, h *Hub, id moss.StreamID) {
	t.Helper()
	if err := h.Finish(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func waitEnd(t testing.TB, end <-chan error, want error) {
	t.Helper()
	select {
	case err := <-end:
		if !errors.Is(err, want) {
			t.Errorf("attachment ended with %v, want %v", err, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("the attachment does not end")
	}
}

// The manager keeps the process's ends open: the end is Finish.
func TestOutputUpToFinish(t *testing.T) {
	store := newMemStore()
	h, id, sink := newHub(t, store), newID(), &memSink{}
	var out, errs syncBuffer
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: &out, Stderr: &errs})
	child := openStream(t, h, id, moss.StdioSpec{Persist: true}, sink)
	if n := store.count(); n != 3 {
		t.Errorf("%d ends in the store, want out, err and stash", n)
	}
	fmt.Fprint(child.Stdout, "to out")
	fmt.Fprint(child.Stderr, "to err")
	finish(t, h, id)
	waitEnd(t, end, nil)
	if out.String() != "to out" || errs.String() != "to err" {
		t.Errorf("client got %q and %q", out.String(), errs.String())
	}
	if sink.text(moss.Stdout) != "to out" || sink.text(moss.Stderr) != "to err" || sink.closed != 1 {
		t.Errorf("log got %q and %q, closed %d times", sink.text(moss.Stdout), sink.text(moss.Stderr), sink.closed)
	}
	if n := store.count(); n != 0 {
		t.Errorf("%d ends left in the store", n)
	}
	if left, _ := os.ReadDir(h.cfg.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	child.Close()
	finish(t, h, id) // nothing is left
}

func TestInput(t *testing.T) {
	for _, spec := range []moss.StdioSpec{{Stdin: true, StdinOnce: true, Persist: true}, {Stdin: true, OneClient: true}} {
		store := newMemStore()
		h, id := newHub(t, store), newID()
		end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: strings.NewReader("typed"), Stdout: io.Discard})
		child := openStream(t, h, id, spec, nil)
		got, err := io.ReadAll(child.Stdin)
		if string(got) != "typed" || err != nil {
			t.Errorf("process read %q, %v", got, err)
		}
		finish(t, h, id)
		waitEnd(t, end, nil)
		child.Close()
	}
}

func TestNoInputIsDevNull(t *testing.T) {
	h, id := newHub(t, nil), newID()
	child := openStream(t, h, id, moss.StdioSpec{}, nil)
	defer child.Close()
	if b, err := io.ReadAll(child.Stdin); len(b) != 0 || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := h.Open(t.Context(), id, moss.StdioSpec{}, nil); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("second open: %v", err)
	}
	finish(t, h, id)
}

func TestGoneClientHoldsNothingUp(t *testing.T) {
	h, id := newHub(t, nil), newID()
	r, w := io.Pipe()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	end := attach(t, ctx, h, id, moss.AttachIO{Stdout: w})
	var other syncBuffer
	end2 := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: &other})
	child := openStream(t, h, id, moss.StdioSpec{}, nil)
	text := strings.Repeat("x", 4<<20)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(child.Stdout, text)
	}()
	cancel()
	waitEnd(t, end, context.Canceled)
	<-wrote
	finish(t, h, id)
	waitEnd(t, end2, nil)
	if other.String() != text {
		t.Errorf("the other client got %d bytes", len(other.String()))
	}
	child.Close()
}

func TestBrokenClient(t *testing.T) {
	h, id := newHub(t, nil), newID()
	r, w := io.Pipe()
	_ = r.Close()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: w})
	child := openStream(t, h, id, moss.StdioSpec{}, nil)
	_, _ = io.WriteString(child.Stdout, "x")
	waitEnd(t, end, io.ErrClosedPipe)
	finish(t, h, id)
	child.Close()
}

func TestDetachKeys(t *testing.T) {
	h, id := newHub(t, nil), newID()
	r, w := io.Pipe()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: r, Stdout: io.Discard, DetachKeys: []byte{16, 17}})
	child := openStream(t, h, id, moss.StdioSpec{Stdin: true}, nil)
	for _, p := range []string{"ab\x10", "c\x10\x10", "\x11lost"} {
		_, _ = io.WriteString(w, p)
	}
	waitEnd(t, end, moss.ErrDetached)
	finish(t, h, id)
	if b, _ := io.ReadAll(child.Stdin); string(b) != "ab\x10c\x10" {
		t.Errorf("process read %q", b)
	}
	child.Close()
}

func FuzzDetach(f *testing.F) {
	f.Add([]byte("aab"), []byte("xaaaby"), 3)
	f.Fuzz(func(t *testing.T, keys, typed []byte, cut int) {
		if len(keys) == 0 || len(keys) > 8 || cut < 0 || cut > len(typed) {
			return
		}
		d := detector{keys: keys}
		var got []byte
		detached := false
		for _, p := range [][]byte{typed[:cut], typed[cut:]} {
			var out []byte
			out, detached = d.pass(p)
			if got = append(got, out...); detached {
				break
			}
		}
		want, _, found := bytes.Cut(typed, keys)
		if !found {
			got = append(got, d.rest()...)
		}
		if detached != found || !bytes.Equal(got, want) {
			t.Fatalf("keys %q typed %q: got %q %v, want %q %v", keys, typed, got, detached, want, found)
		}
	})
}

// What an exec prints before its client comes is kept, also past its end.
func TestExecOutputIsKept(t *testing.T) {
	h, id := newHub(t, nil), newID()
	child := openStream(t, h, id, moss.StdioSpec{OneClient: true}, nil)
	_, _ = io.WriteString(child.Stdout, "early")
	child.Close()
	finish(t, h, id)
	var out syncBuffer
	waitEnd(t, attach(t, t.Context(), h, id, moss.AttachIO{Stdout: &out}), nil)
	if out.String() != "early" {
		t.Errorf("client got %q", out.String())
	}
	if h.find(id) != nil {
		t.Error("the stream is still known")
	}
	// Nobody comes: Drop forgets.
	child = openStream(t, h, id, moss.StdioSpec{OneClient: true}, nil)
	child.Close()
	finish(t, h, id)
	h.Drop(id)
	if h.find(id) != nil {
		t.Error("the stream is still known")
	}
}

// A background child of an exec holds the pipe and keeps writing.
func TestFinishEndsWhileOthersWrite(t *testing.T) {
	h, id := newHub(t, nil), newID()
	child := openStream(t, h, id, moss.StdioSpec{}, &memSink{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := child.Stdout.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}()
	finish(t, h, id)
	<-done // EPIPE
	child.Close()
}

func TestDrop(t *testing.T) {
	h, id := newHub(t, nil), newID()
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: strings.NewReader("x"), Stdout: io.Discard})
	h.Drop(id)
	waitEnd(t, end, nil)
	h.Drop(id)
	ctx, cancel := context.WithCancel(t.Context())
	end = attach(t, ctx, h, id, moss.AttachIO{Stdout: io.Discard})
	cancel()
	waitEnd(t, end, context.Canceled)
	if h.find(id) != nil {
		t.Error("the stream is still known")
	}
}

func TestSinkFailureIsTold(t *testing.T) {
	full := errors.New("disk full")
	for _, store := range []Store{nil, newMemStore()} {
		h, id, sink := newHub(t, store), newID(), &memSink{fail: full}
		told := make(chan error, 9)
		h.cfg.Failed = func(_ moss.StreamID, err error) { told <- err }
		var out syncBuffer
		end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: &out})
		child := openStream(t, h, id, moss.StdioSpec{Persist: true}, sink)
		_, _ = io.WriteString(child.Stdout, "x")
		if err := <-told; !errors.Is(err, full) { // while it runs
			t.Errorf("told: %v", err)
		}
		_, _ = io.WriteString(child.Stdout, "y")
		if err := h.Finish(t.Context(), id); !errors.Is(err, full) {
			t.Errorf("finish: %v", err)
		}
		waitEnd(t, end, nil)
		if len(told) > 0 {
			t.Errorf("told again: %v", <-told)
		}
		if out.String() != "xy" {
			t.Errorf("client got %q", out.String())
		}
		child.Close()
	}
}

// 100 MB through the streams come out as they went in.
func TestBulkBothWays(t *testing.T) {
	const size = 100 << 20
	for _, persist := range []bool{false, true} {
		h, id := newHub(t, newMemStore()), newID()
		data := make([]byte, 1<<20)
		_, _ = rand.Read(data)
		want := sha256.New()
		for range size / len(data) {
			want.Write(data)
		}
		got := sha256.New()
		in := io.LimitReader(&looped{data: data}, size)
		var sink moss.LogSink
		if persist {
			sink = discard{}
		}
		end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: in, Stdout: got})
		child := openStream(t, h, id, moss.StdioSpec{Stdin: true, StdinOnce: true, Persist: persist}, sink)
		if n, err := io.CopyBuffer(struct{ io.Writer }{child.Stdout}, struct{ io.Reader }{child.Stdin}, make([]byte, 77777)); n != size || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
		finish(t, h, id)
		waitEnd(t, end, nil)
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("sums differ")
		}
		child.Close()
	}
}

type discard struct{}

func (discard) Write(moss.StreamKind, time.Time, []byte) error { return nil }
func (discard) Close() error                                   { return nil }

// looped repeats data for ever.
type looped struct {
	data []byte
	at   int
}

func (l *looped) Read(p []byte) (int, error) {
	n := copy(p, l.data[l.at:])
	l.at = (l.at + n) % len(l.data)
	return n, nil
}

func BenchmarkAttach(b *testing.B) {
	for _, persist := range []bool{false, true} {
		b.Run(fmt.Sprintf("journal=%v", persist), func(b *testing.B) {
			h, id := newHub(b, newMemStore()), newID()
			var sink moss.LogSink
			if persist {
				sink = discard{}
			}
			end := attach(b, b.Context(), h, id, moss.AttachIO{Stdout: io.Discard})
			child := openStream(b, h, id, moss.StdioSpec{Persist: persist}, sink)
			p := make([]byte, 64<<10)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := child.Stdout.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			finish(b, h, id)
			<-end
			child.Close()
		})
	}
}
