package porttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Logs runs the contract suite of [engine.Logs]. open is called once a test; it
// also returns the directory for a container's files. The suite is run for each of
// the drivers, which keep a log that can be read.
func Logs(t *testing.T, open func(t *testing.T) (l engine.Logs, dir string), drivers ...moss.LogConfig) {
	for _, d := range drivers {
		t.Run(fmt.Sprint(d.Driver, " ", d.Options), func(t *testing.T) { readableLogs(t, open, d) })
	}
	t.Run("driver none", func(t *testing.T) { noLogs(t, open) })
	t.Run("check", func(t *testing.T) {
		l, _ := open(t)
		for _, d := range append(drivers, moss.LogConfig{Driver: "none"}) {
			if err := l.Check(d); err != nil {
				t.Errorf("%s: %v", d.Driver, err)
			}
			d.Options = maps.Clone(d.Options)
			if d.Options == nil {
				d.Options = map[string]string{}
			}
			d.Options["colour"] = "red"
			if err := l.Check(d); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%s: %v", d.Driver, err)
			}
		}
		if err := l.Check(moss.LogConfig{Driver: "splunk"}); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("splunk: %v", err)
		}
	})
}

func readableLogs(t *testing.T, open func(t *testing.T) (l engine.Logs, dir string), driver moss.LogConfig) {
	setup := func(t *testing.T) (engine.Logs, *moss.Container) {
		l, dir := open(t)
		c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Dir: dir}
		c.Host.LogConfig = driver
		return l, c
	}

	t.Run("what was written is read, by stream", func(t *testing.T) {
		l, c := setup(t)
		s := openLog(t, l, c)
		at := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
		writeLog(t, s, moss.Stdout, at, "one\ntw")
		writeLog(t, s, moss.Stderr, at.Add(time.Second), "err\n")
		writeLog(t, s, moss.Stdout, at.Add(2*time.Second), "o\nthr\xe2\x82")
		writeLog(t, s, moss.Stdout, at.Add(3*time.Second), "\xac\n")
		expectLog(t, l, c, moss.LogQuery{Stdout: true, Tail: -1}, "one\ntwo\nthr€\n")
		expectLog(t, l, c, moss.LogQuery{Stderr: true, Tail: -1}, "err\n")
		var times []time.Time
		var partial []bool
		err := l.Read(t.Context(), c, moss.LogQuery{Stdout: true, Tail: -1}, func(line moss.LogLine) error {
			times, partial = append(times, line.Time), append(partial, line.Partial)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			at      time.Time
			partial bool
		}{{at, false}, {at, true}, {at, false}, {at.Add(2 * time.Second), true}, {at.Add(2 * time.Second), false}} {
			if i >= len(times) || !times[i].Equal(want.at) || partial[i] != want.partial {
				t.Errorf("piece %d of %v %v: want %v %v", i, times, partial, want.at, want.partial)
				break
			}
		}
	})

	t.Run("tail counts lines, not pieces", func(t *testing.T) {
		l, c := setup(t)
		s := openLog(t, l, c)
		for _, p := range []string{"1\n2", "2\n", "3", "3", "3\n4\n", "5"} {
			writeLog(t, s, moss.Stdout, time.Now(), p)
		}
		for n, want := range []string{"", "5", "4\n5", "333\n4\n5", "22\n333\n4\n5", "1\n22\n333\n4\n5", "1\n22\n333\n4\n5"} {
			expectLog(t, l, c, moss.LogQuery{Stdout: true, Tail: n}, want)
		}
	})

	t.Run("since and until", func(t *testing.T) {
		l, c := setup(t)
		s := openLog(t, l, c)
		base := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
		for i := range 5 {
			writeLog(t, s, moss.Stderr, base.Add(time.Duration(i)*time.Second), string(rune('0'+i))+"\n")
		}
		q := moss.LogQuery{Stderr: true, Tail: -1, Since: base.Add(time.Second), Until: base.Add(3 * time.Second)}
		expectLog(t, l, c, q, "1\n2\n3\n")
		q.Follow = true
		expectLog(t, l, c, q, "1\n2\n3\n")
	})

	t.Run("a further run continues the log", func(t *testing.T) {
		l, c := setup(t)
		for _, text := range []string{"first\n", "second\n"} {
			s := openLog(t, l, c)
			writeLog(t, s, moss.Stdout, time.Now(), text)
			closeLog(t, s)
			if err := s.Write(moss.Stdout, time.Now(), []byte("x")); err == nil {
				t.Error("a closed sink takes output")
			}
		}
		expectLog(t, l, c, moss.LogQuery{Stdout: true, Tail: -1}, "first\nsecond\n")
	})

	t.Run("follow ends with the run", func(t *testing.T) {
		l, c := setup(t)
		s := openLog(t, l, c)
		writeLog(t, s, moss.Stdout, time.Now(), "0\n")
		q := moss.LogQuery{Stdout: true, Follow: true, Tail: 1}
		var got strings.Builder
		step := make(chan struct{})
		end := make(chan error, 1)
		go func() {
			end <- l.Read(t.Context(), c, q, func(line moss.LogLine) error {
				got.Write(line.Text)
				step <- struct{}{}
				return nil
			})
		}()
		<-step
		for _, p := range []string{"1\n", "2"} {
			writeLog(t, s, moss.Stdout, time.Now(), p)
			<-step
		}
		closeLog(t, s)
		if err := <-end; err != nil || got.String() != "0\n1\n2" {
			t.Errorf("followed %q, %v", got.String(), err)
		}
		expectLog(t, l, c, q, "2") // of a log that nobody writes
	})

	t.Run("follow ends with its context, and with an error of its caller", func(t *testing.T) {
		l, c := setup(t)
		writeLog(t, openLog(t, l, c), moss.Stdout, time.Now(), "0\n")
		ctx, cancel := context.WithCancel(t.Context())
		q := moss.LogQuery{Stdout: true, Follow: true, Tail: -1}
		if err := l.Read(ctx, c, q, func(moss.LogLine) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		enough := errors.New("enough")
		if err := l.Read(t.Context(), c, q, func(moss.LogLine) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("remove", func(t *testing.T) {
		l, c := setup(t)
		s := openLog(t, l, c)
		writeLog(t, s, moss.Stdout, time.Now(), "0\n")
		closeLog(t, s)
		for range 2 {
			if err := l.Remove(c); err != nil {
				t.Fatal(err)
			}
			expectLog(t, l, c, moss.LogQuery{Stdout: true, Tail: -1}, "")
		}
	})
}

func noLogs(t *testing.T, open func(t *testing.T) (l engine.Logs, dir string)) {
	l, dir := open(t)
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Dir: dir}
	c.Host.LogConfig.Driver = "none"
	if s, err := l.Open(c); s != nil || err != nil {
		t.Errorf("open: %v, %v", s, err)
	}
	err := l.Read(t.Context(), c, moss.LogQuery{Stdout: true, Tail: -1}, func(moss.LogLine) error { return nil })
	if moss.ClassOf(err) != moss.NotImplemented || !strings.Contains(err.Error(), "configured logging driver does not support reading") {
		t.Errorf("read: %v", err)
	}
	if err := l.Remove(c); err != nil {
		t.Error(err)
	}
}

func openLog(t *testing.T, l engine.Logs, c *moss.Container) engine.LogSink {
	t.Helper()
	s, err := l.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // again where the test did
	return s
}

func writeLog(t *testing.T, s engine.LogSink, k moss.StreamKind, at time.Time, text string) {
	t.Helper()
	if err := s.Write(k, at, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func closeLog(t *testing.T, s engine.LogSink) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func expectLog(t *testing.T, l engine.Logs, c *moss.Container, q moss.LogQuery, want string) {
	t.Helper()
	var got strings.Builder
	if err := l.Read(t.Context(), c, q, func(line moss.LogLine) error { got.Write(line.Text); return nil }); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("%+v: got %q, want %q", q, got.String(), want)
	}
}
