package stdio

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// isHot is for tests, which are not the pump.
func (s *source) isHot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hot()
}

// eventually waits for what a pump does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(what)
		}
	}
}

// pumpNearlyHot pumps a pipe that gets hot by the next little read, however slow
// the machine is.
func pumpNearlyHot(t *testing.T, sink moss.LogSink) (*source, *os.File, *stream) {
	t.Helper()
	h := newHub(t, nil)
	ours, theirs, err := pipe(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	s := newStream(h, newID())
	p := &pump{s: s, source: h.newSource(ours), kind: moss.Stdout, sink: sink}
	p.heat.last, p.heat.level = time.Now(), time.Hour
	s.pumps.Go(p.run)
	return p.source, theirs, s
}

// A pipe gets hot and cold again, loses nothing, and is as large as before.
func TestPipeGetsHotAndCold(t *testing.T) {
	sink := &memSink{}
	source, w, s := pumpNearlyHot(t, sink)
	var want strings.Builder
	for round := range 3 {
		for i := range 2000 {
			line := fmt.Sprintf("line %d of %d\n", i, round)
			want.WriteString(line)
			if _, err := io.WriteString(w, line); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "not all is logged", func() bool { return sink.text(moss.Stdout) == want.String() })
		eventually(t, "a quiet pipe stays hot", func() bool { return !source.isHot() })
		size := 0
		err := source.now(func(fd int) (err error) { size, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); return err })
		if err != nil || size > chunkSize || source.large.Load() != 0 {
			t.Errorf("the quiet pipe holds %d bytes, %v; %d are large", size, err, source.large.Load())
		}
	}
	source.interrupt()
	s.pumps.Wait()
	if err := source.close(); err != nil {
		t.Error(err)
	}
}

// gate is a log that says when it is written to, and lets nothing in until it may.
type gate struct {
	memSink
	came, pass chan struct{}
}

func (g *gate) Write(k moss.StreamKind, at time.Time, p []byte) error {
	g.came <- struct{}{}
	<-g.pass
	return g.memSink.Write(k, at, p)
}

// What lies in a hot pipe when its process ends is read.
func TestHotPipeEnds(t *testing.T) {
	for _, closed := range []bool{true, false} {
		g := &gate{came: make(chan struct{}), pass: make(chan struct{})}
		source, w, s := pumpNearlyHot(t, g)
		_, _ = io.WriteString(w, "first ")
		<-g.came
		_, _ = io.WriteString(w, "second ")
		g.pass <- struct{}{}
		<-g.came
		if !source.isHot() {
			t.Error("the pipe is not hot")
		}
		_, _ = io.WriteString(w, "third")
		if closed {
			_ = w.Close()
		} else {
			source.interrupt() // others have the pipe
		}
		go func() {
			for range g.came {
				g.pass <- struct{}{}
			}
		}()
		g.pass <- struct{}{}
		s.pumps.Wait()
		close(g.came)
		if got := g.text(moss.Stdout); got != "first second third" {
			t.Errorf("closed %v: log got %q", closed, got)
		}
		if err := source.close(); err != nil {
			t.Error(err)
		}
		if n := source.large.Load(); n != 0 {
			t.Errorf("%d pipes are large", n)
		}
	}
}

// Only so many hot pipes are large; the others are hot as they are.
func TestFewPipesAreLarge(t *testing.T) {
	h := newHub(t, nil)
	for i := range maxLarge + 2 {
		ours, theirs, err := pipe(true)
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		s := h.newSource(ours)
		defer func() { _ = s.close() }()
		size, err := s.heat()
		if err != nil || !s.hot() {
			t.Fatal(err)
		}
		if i >= maxLarge && size > chunkSize {
			t.Errorf("pipe %d holds %d bytes", i, size)
		}
	}
	if n := h.large.Load(); n > maxLarge {
		t.Errorf("%d pipes are large", n)
	}
}

// A source that is interrupted stays so, hot or cold.
func TestInterruptedSource(t *testing.T) {
	h := newHub(t, nil)
	ours, theirs, err := pipe(true)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	s := h.newSource(ours)
	if _, err := s.heat(); err != nil {
		t.Fatal(err)
	}
	slept := make(chan error)
	go func() { slept <- s.waitUntil(time.Now().Add(time.Hour), func(int) { t.Error("read") }) }()
	s.interrupt()
	if err := <-slept; err == nil {
		t.Error("slept on")
	}
	if err := s.waitUntil(time.Now(), func(int) { t.Error("read") }); err == nil {
		t.Error("read though interrupted")
	}
	s.cool()
	if err := s.wait(func(int) bool { return false }); err == nil {
		t.Error("waits though interrupted")
	}
	if _, err := s.heat(); err == nil {
		t.Error("hot though interrupted")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
