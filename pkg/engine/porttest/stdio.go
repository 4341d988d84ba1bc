package porttest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// StdioRig is what the contracts of [engine.Stdio] and [engine.Attacher] are
// tried on.
type StdioRig interface {
	Stdio() engine.Stdio
	Attacher() engine.Attacher
	// Process plays the process of an opened stream: with a terminal it is
	// made and sent.
	Process(t *testing.T, id moss.StreamID, child moss.ChildStdio) StdioProcess
	// Restart puts a new daemon in the place of the present one, which is killed.
	Restart(t *testing.T)
}

// StdioProcess is a process's side of its streams.
type StdioProcess struct {
	In       io.Reader
	Out, Err io.Writer
	Size     func() moss.TermSize // of the terminal
	Close    func()
}

const stdioPatience = 20 * time.Second

// Stdio runs the contract suite of [engine.Stdio] and [engine.Attacher]. open
// is called once a test.
func Stdio(t *testing.T, open func(t *testing.T) StdioRig) {
	t.Run("output goes to log and clients, up to Finish", func(t *testing.T) {
		r, id, sink := open(t), newStream(), &sinkProbe{}
		var early, late, errs probe
		end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &early, Stderr: &errs})
		p := openStream(t, r, id, moss.StdioSpec{Persist: true}, sink)
		say(t, p.Out, "one,")
		early.wait(t, "one,")
		end2 := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &late})
		say(t, p.Out, "two")
		say(t, p.Err, "err")
		finishStream(t, r, id) // the process's ends are still open
		endOf(t, end, nil)
		endOf(t, end2, nil)
		early.expect(t, "first client", "one,two")
		late.expect(t, "second client", "two")
		errs.expect(t, "stderr", "err")
		sink.out.expect(t, "log", "one,two")
		sink.err.expect(t, "log", "err")
		if sink.closed != 1 {
			t.Errorf("the sink was closed %d times", sink.closed)
		}
		finishStream(t, r, id) // nothing left
	})

	t.Run("input", func(t *testing.T) {
		for _, spec := range []moss.StdioSpec{{Stdin: true, StdinOnce: true, Persist: true}, {Stdin: true, OneClient: true}} {
			r, id := open(t), newStream()
			end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdin: strings.NewReader("typed"), Stdout: io.Discard})
			p := openStream(t, r, id, spec, nil)
			if b, err := io.ReadAll(p.In); string(b) != "typed" || err != nil {
				t.Errorf("the process read %q, %v", b, err)
			}
			finishStream(t, r, id)
			endOf(t, end, nil)
		}
		r, id := open(t), newStream()
		p := openStream(t, r, id, moss.StdioSpec{}, nil)
		if b, err := io.ReadAll(p.In); len(b) != 0 || err != nil {
			t.Errorf("a process without input read %q, %v", b, err)
		}
		finishStream(t, r, id)
	})

	t.Run("a client of the input alone ends with it, which stays open", func(t *testing.T) {
		r, id := open(t), newStream()
		p := openStream(t, r, id, moss.StdioSpec{Stdin: true}, nil)
		for _, text := range []string{"one", "two"} {
			endOf(t, attachStream(t, r, t.Context(), id, moss.AttachIO{Stdin: strings.NewReader(text)}), nil)
			got := make([]byte, len(text))
			if _, err := io.ReadFull(p.In, got); err != nil || string(got) != text {
				t.Errorf("the process read %q, %v", got, err)
			}
		}
		finishStream(t, r, id)
	})

	t.Run("detach keys and context end an attachment", func(t *testing.T) {
		r, id := open(t), newStream()
		p := openStream(t, r, id, moss.StdioSpec{Stdin: true}, nil)
		in, typed := io.Pipe()
		end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdin: in, Stdout: io.Discard, DetachKeys: []byte("\x10\x11")})
		ctx, cancel := context.WithCancel(t.Context())
		end2 := attachStream(t, r, ctx, id, moss.AttachIO{Stdout: io.Discard})
		say(t, typed, "ab\x10\x11")
		endOf(t, end, engine.ErrDetached)
		cancel()
		endOf(t, end2, context.Canceled)
		got := make([]byte, 2)
		if _, err := io.ReadFull(p.In, got); err != nil || string(got) != "ab" {
			t.Errorf("the process read %q, %v", got, err)
		}
		finishStream(t, r, id)
	})

	t.Run("drop ends who waits", func(t *testing.T) {
		r, id := open(t), newStream()
		r.Attacher().Drop(id)
		end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: io.Discard})
		r.Attacher().Drop(id)
		endOf(t, end, nil)
	})

	t.Run("an exec's output is kept for its client", func(t *testing.T) {
		r, id := open(t), newStream()
		p := openStream(t, r, id, moss.StdioSpec{OneClient: true}, nil)
		say(t, p.Out, "early,")
		say(t, p.Err, "err")
		var out, errs probe
		end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &out, Stderr: &errs})
		out.wait(t, "early,")
		say(t, p.Out, "late")
		finishStream(t, r, id)
		endOf(t, end, nil)
		out.expect(t, "stdout", "early,late")
		errs.expect(t, "stderr", "err")

		id = newStream() // the same past its end
		say(t, openStream(t, r, id, moss.StdioSpec{OneClient: true}, nil).Out, "early")
		finishStream(t, r, id)
		var after probe
		endOf(t, attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &after}), nil)
		after.expect(t, "stdout", "early")
	})

	t.Run("terminal", func(t *testing.T) {
		r, id, sink := open(t), newStream(), &sinkProbe{}
		var out probe
		end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &out})
		spec := moss.StdioSpec{TTY: true, Stdin: true, Persist: true, Size: moss.TermSize{Rows: 5, Cols: 6}}
		p := openStream(t, r, id, spec, sink)
		if got := p.Size(); got != spec.Size {
			t.Errorf("size %v, want %v", got, spec.Size)
		}
		if err := r.Attacher().Resize(id, moss.TermSize{Rows: 7, Cols: 8}); err != nil {
			t.Fatal(err)
		}
		if got := p.Size(); got != (moss.TermSize{Rows: 7, Cols: 8}) {
			t.Errorf("size %v after resize", got)
		}
		say(t, p.Out, "prompt$ ")
		p.Close()
		finishStream(t, r, id)
		endOf(t, end, nil)
		out.expect(t, "client", "prompt$ ")
		sink.out.expect(t, "log", "prompt$ ")
	})

	t.Run("conflicts", func(t *testing.T) {
		r, id := open(t), newStream()
		openStream(t, r, id, moss.StdioSpec{}, nil)
		if _, err := r.Stdio().Open(t.Context(), id, moss.StdioSpec{}, nil); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("second open: %v", err)
		}
		for _, id := range []moss.StreamID{id, newStream()} {
			if err := r.Attacher().Resize(id, moss.TermSize{Rows: 1, Cols: 1}); moss.ClassOf(err) != moss.Conflict {
				t.Errorf("resize: %v", err)
			}
		}
		finishStream(t, r, id)
	})

	for _, tty := range []bool{false, true} {
		t.Run(map[bool]string{false: "restore pipes", true: "restore a terminal"}[tty], func(t *testing.T) {
			r, id, spec := open(t), newStream(), moss.StdioSpec{TTY: tty, Persist: true}
			p := openStream(t, r, id, spec, &sinkProbe{})
			r.Restart(t)
			say(t, p.Out, "between,")
			sink := &sinkProbe{}
			if err := r.Stdio().Restore(t.Context(), id, spec, sink); err != nil {
				t.Fatal(err)
			}
			if err := r.Stdio().Forget(map[moss.StreamID]bool{id: true}); err != nil {
				t.Fatal(err)
			}
			sink.out.wait(t, "between,")
			var out probe
			end := attachStream(t, r, t.Context(), id, moss.AttachIO{Stdout: &out})
			say(t, p.Out, "after")
			p.Close()
			finishStream(t, r, id)
			endOf(t, end, nil)
			// A client may get what the log got an instant ago.
			if got := out.String(); got != "after" && got != "between,after" {
				t.Errorf("client got %q", got)
			}
			sink.out.expect(t, "log", "between,after")
		})
	}

	t.Run("forget", func(t *testing.T) {
		r, id, spec := open(t), newStream(), moss.StdioSpec{Persist: true}
		openStream(t, r, id, spec, &sinkProbe{})
		r.Restart(t)
		if err := r.Stdio().Forget(nil); err != nil {
			t.Fatal(err)
		}
		if err := r.Stdio().Restore(t.Context(), id, spec, &sinkProbe{}); err == nil {
			t.Error("what was forgotten was restored")
		}
		finishStream(t, r, id)
	})
}

// probe is a writer that can be waited for.
type probe struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *probe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *probe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *probe) wait(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(stdioPatience)
	for p.String() != want {
		if time.Now().After(deadline) {
			t.Fatalf("got %q, want %q", p.String(), want)
		}
		time.Sleep(time.Millisecond) // there is nothing to wait on at the far end of a pipe
	}
}

func (p *probe) expect(t *testing.T, who, want string) {
	t.Helper()
	if got := p.String(); got != want {
		t.Errorf("%s got %q, want %q", who, got, want)
	}
}

// sinkProbe is a log.
type sinkProbe struct {
	out, err probe
	closed   int
}

func (s *sinkProbe) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	if at.IsZero() {
		return errors.New("no time")
	}
	to := &s.out
	if kind == moss.Stderr {
		to = &s.err
	}
	_, err := to.Write(p)
	return err
}

func (s *sinkProbe) Close() error { s.closed++; return nil }

func newStream() moss.StreamID { return moss.StreamID(moss.NewHexID()) }

func openStream(t *testing.T, r StdioRig, id moss.StreamID, spec moss.StdioSpec, sink engine.LogSink) StdioProcess {
	t.Helper()
	child, err := r.Stdio().Open(t.Context(), id, spec, sink)
	if err != nil {
		t.Fatal(err)
	}
	if (child.ConsoleSocket != "") != spec.TTY || (child.Stdin == nil || child.Stdout == nil || child.Stderr == nil) != spec.TTY {
		t.Errorf("terminal %v: the process's ends are %+v", spec.TTY, child)
	}
	p := r.Process(t, id, child)
	if err := r.Stdio().Ready(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func finishStream(t *testing.T, r StdioRig, id moss.StreamID) {
	t.Helper()
	if err := r.Stdio().Finish(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func attachStream(t *testing.T, r StdioRig, ctx context.Context, id moss.StreamID, a moss.AttachIO) <-chan error {
	t.Helper()
	attached, end := make(chan struct{}), make(chan error, 1)
	go func() { end <- r.Attacher().Attach(ctx, id, a, func() { close(attached) }) }()
	<-attached
	return end
}

func endOf(t *testing.T, end <-chan error, want error) {
	t.Helper()
	select {
	case err := <-end:
		if !errors.Is(err, want) {
			t.Errorf("the attachment ended with %v, want %v", err, want)
		}
	case <-time.After(stdioPatience):
		t.Fatal("the attachment does not end")
	}
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}
