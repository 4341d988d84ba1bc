package engine_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

// output is a client's end that can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func within(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("still waiting for", what)
		return nil
	}
}

func (r *rig) attach(id moss.ContainerID, a moss.AttachIO) <-chan error {
	done, joined := make(chan error, 1), make(chan struct{})
	go func() {
		done <- r.Signals().Attach(r.t.Context(), string(id), a, false, true, func() { close(joined) })
	}()
	<-joined
	return done
}

// over waits for the end of a run, outside a bubble.
func (r *rig) over(id moss.ContainerID, end func()) {
	r.t.Helper()
	done, ready := make(chan error, 1), make(chan struct{})
	go func() {
		_, _, err := r.Views().Wait(r.t.Context(), string(id), moss.WaitNextExit, func() { close(ready) })
		done <- err
	}()
	<-ready
	end()
	r.must(within(r.t, "the end of a run", done))
}

func TestAttachBeforeStart(t *testing.T) {
	r := newRig(t, true)
	id := r.create(func(q *moss.CreateRequest) { q.Config.OpenStdin = true })
	out, errs := new(output), new(output)
	in, typed := io.Pipe()
	done := r.attach(id, moss.AttachIO{Stdin: in, Stdout: out, Stderr: errs})
	r.start(id)
	stdin, stdout, stderr := r.stdio.Process(id.Streams())
	_, _ = io.WriteString(typed, "hello\n") // a pipe that is read
	line := make([]byte, 6)
	if _, err := io.ReadFull(stdin, line); err != nil || string(line) != "hello\n" {
		t.Errorf("the process reads %q %v", line, err)
	}
	_, _ = io.WriteString(stdout, "out\n")
	_, _ = io.WriteString(stderr, "err\n")
	r.over(id, func() { r.units.Exit(id, 0) })
	r.must(within(t, "the attachment", done))
	if out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("the client got %q and %q", out, errs)
	}
	// What was logged can be had without a run.
	again := new(output)
	r.must(r.Signals().Attach(t.Context(), string(id), moss.AttachIO{Stdout: again}, true, false, func() {}))
	var logged strings.Builder
	r.must(r.Views().Logs(t.Context(), string(id), moss.LogQuery{Stdout: true, Stderr: true, Tail: -1}, func(l moss.LogLine) error {
		logged.Write(l.Text)
		return nil
	}))
	if again.String() != "out\n" || logged.Len() != 8 {
		t.Errorf("replayed %q, logged %q", again, logged.String())
	}
	_ = typed.Close()
}

func TestAttachToAStartThatFails(t *testing.T) {
	r := newRig(t, true)
	id := r.create()
	r.runtime.OnPrepare = func(moss.Bundle) error { return errInjected }
	for _, err := range []error{nil, errInjected} {
		r.rootfs.Fail("Mount", err) // before the streams are there, and after
		done := r.attach(id, moss.AttachIO{Stdout: new(output)})
		if err := r.Containers().Start(t.Context(), string(id)); err == nil {
			t.Error("it started")
		}
		r.must(within(t, "the attachment", done))
	}
	done := r.attach(id, moss.AttachIO{Stdout: new(output)})
	r.must(r.remove(id, false))
	r.must(within(t, "the attachment to what is removed", done))
	r.checkEmpty()
}

func TestDetach(t *testing.T) {
	r := newRig(t, true)
	id := r.run(func(q *moss.CreateRequest) { q.Config.OpenStdin = true })
	in, typed := io.Pipe()
	done := r.attach(id, moss.AttachIO{Stdin: in, Stdout: new(output), DetachKeys: []byte{16, 17}})
	_, _ = typed.Write([]byte{16, 17})
	r.must(within(t, "the attachment", done))
	r.wantState(id, moss.StateRunning, 0)
	r.wantActions(id, "create", "start", "attach", "detach")
	r.wantClass(r.Signals().Resize(t.Context(), string(id), moss.TermSize{Rows: 1, Cols: 1}), moss.Conflict)
	r.must(r.remove(id, true))
	r.wantClass(r.Signals().Resize(t.Context(), string(id), moss.TermSize{Rows: 1, Cols: 1}), moss.NotFound)
}

func TestResize(t *testing.T) {
	r := newRig(t, true)
	id := r.create(func(q *moss.CreateRequest) { q.Config.TTY = true })
	size := moss.TermSize{Rows: 7, Cols: 70}
	r.wantClass(r.Signals().Resize(t.Context(), string(id), size), moss.Conflict)
	r.start(id)
	r.must(r.Signals().Resize(t.Context(), string(id), size))
	if got := r.stdio.Size(id.Streams()); got != size {
		t.Errorf("%v", got)
	}
}

func (r *rig) exec(id moss.ContainerID, cmd ...string) string {
	r.t.Helper()
	x, err := r.Execs().Create(r.t.Context(), string(id), moss.ExecConfig{Cmd: cmd, AttachStdin: true, AttachStdout: true})
	r.must(err)
	return string(x)
}

func (r *rig) wantExecCode(x string, code int) {
	r.t.Helper()
	got, err := r.Execs().Get(x)
	if err != nil || got.Running || got.PID != 0 || got.ExitCode == nil || *got.ExitCode != code {
		r.t.Errorf("exec: %+v %v, want code %d", got, err, code)
	}
}

func TestExec(t *testing.T) {
	r := newRig(t, true)
	id := r.run()
	x := r.exec(id, "cat")
	if got, err := r.Execs().Get(x); err != nil || got.Started || got.Running || got.ExitCode != nil {
		t.Errorf("%+v %v", got, err)
	}
	out := new(output)
	attached := false
	a := moss.AttachIO{Stdin: strings.NewReader("to and fro"), Stdout: out}
	r.must(r.Execs().Start(t.Context(), x, false, moss.TermSize{}, a, func() { attached = true }))
	if out.String() != "to and fro" || !attached {
		t.Errorf("%q, attached %v", out, attached)
	}
	r.wantExecCode(x, 0)
	r.wantClass(r.Execs().Start(t.Context(), x, false, moss.TermSize{}, a, func() {}), moss.Conflict)

	x = r.exec(id, "sh", "-c", "exit 42")
	r.must(r.Execs().Start(t.Context(), x, false, moss.TermSize{}, moss.AttachIO{Stdout: out}, func() {}))
	r.wantExecCode(x, 42)
	r.wantClass(r.Execs().Resize(t.Context(), x, moss.TermSize{}), moss.Conflict)
	_, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{})
	r.wantClass(err, moss.Invalid)
	_, err = r.Execs().Get("nope")
	r.wantClass(err, moss.NotFound)

	r.halt()
	var dies []string
	for _, e := range r.events.Of(string(id)) {
		if e.Action == "exec_die" {
			dies = append(dies, e.Attributes["exitCode"])
		}
	}
	if len(dies) != 2 || dies[0] != "0" || dies[1] != "42" {
		t.Errorf("%q", dies)
	}
}

func TestExecThatCannotRun(t *testing.T) {
	r := newRig(t, true)
	id := r.run()
	for command, code := range map[string]int{"nope": 127, "/etc/passwd": 126} {
		for _, detach := range []bool{false, true} {
			x := r.exec(id, command)
			done := make(chan error, 1)
			go func() {
				done <- r.Execs().Start(t.Context(), x, detach, moss.TermSize{}, moss.AttachIO{Stdout: new(output)}, func() { t.Error("attached") })
			}()
			r.wantClass(within(t, "the exec", done), moss.Invalid)
			r.wantExecCode(x, code)
		}
	}
	if left := r.stdio.Left(); len(left) != 1 {
		t.Errorf("streams left: %v", left)
	}
}

func TestExecWhereTheRootfsIsGone(t *testing.T) {
	r := newRig(t, true)
	id := r.run(named("web"))
	r.rootfs.Fail("Alive", moss.Errorf(moss.Unavailable, "it is gone"))
	start := func(command string) error {
		return r.Execs().Start(t.Context(), r.exec(id, command), true, moss.TermSize{}, moss.AttachIO{}, func() {})
	}
	err := start("nope")
	if r.wantClass(err, moss.Unavailable); err.Error() != `cannot exec in "web": it is gone` {
		t.Error(err)
	}
	r.rootfs.Fail("Alive", nil)
	r.wantClass(start("nope"), moss.Invalid)
}

// Every call of an exec's start fails once; nobody waits for ever, and nothing
// is left but the container's own.
func TestEveryStepOfAnExecCanFail(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for step := range 3 {
			r := newRig(t, true)
			id := r.run()
			x := r.exec(id, "cat")
			r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) { return fake.NewProcess(4711), nil }
			r.faults.arm(step, -1)
			done := make(chan error, 1)
			go func() {
				done <- r.Execs().Start(t.Context(), x, detach, moss.TermSize{}, moss.AttachIO{Stdout: new(output)}, func() {})
			}()
			if err := within(t, "the exec", done); err == nil {
				t.Errorf("%s failed and the exec did not", r.faults.disarm()[step])
			}
			r.wantExecCode(x, 128)
			if left := r.stdio.Left(); len(left) != 1 {
				t.Errorf("streams left after step %d: %v", step, left)
			}
			if p := r.runtime.Execs(id); len(p) > 0 && !p[0].Ended() {
				t.Errorf("after step %d its process is left", step)
			}
			r.halt()
		}
	}
}

func TestExecDetached(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		x := r.exec(id, "sleep", "inf")
		r.must(r.Execs().Start(t.Context(), x, true, moss.TermSize{}, moss.AttachIO{}, func() {}))
		synctest.Wait()
		if got, err := r.Execs().Get(x); err != nil || !got.Running || got.PID == 0 {
			t.Errorf("%+v %v", got, err)
		}
		r.exit(id, 0) // takes it along
		r.wantExecCode(x, 137)
		r.check()
		_, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"true"}})
		r.wantClass(err, moss.Conflict)
	})
}

// Output is read from the first byte on, and nobody joins what has failed.
func TestAnExecWaitsForItsClient(t *testing.T) {
	for _, detach := range []bool{false, true} {
		bubble(t, func(t *testing.T, r *rig) {
			r.slow = time.Second
			id := r.run()
			begin := time.Now()
			r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) {
				if d := time.Since(begin); d != time.Second {
					t.Errorf("it runs after %s", d)
				}
				return nil, errInjected
			}
			if err := r.Execs().Start(t.Context(), r.exec(id, "sleep"), detach, moss.TermSize{}, moss.AttachIO{}, func() {}); err == nil {
				t.Error("it runs")
			}
			settle()
			if left := r.stdio.Left(); len(left) != 1 {
				t.Errorf("streams left: %v", left)
			}
		})
	}
}

func TestExecInWhatHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		x := r.exec(id, "true")
		r.exit(id, 0)
		r.wantClass(r.Execs().Start(t.Context(), x, true, moss.TermSize{}, moss.AttachIO{}, func() {}), moss.NotFound)
		r.must(r.remove(id, false))
		_, err := r.Execs().Get(x)
		r.wantClass(err, moss.NotFound)
	})
}

func TestAClientLeavesAnExec(t *testing.T) {
	r := newRig(t, true)
	id := r.run()
	p := fake.NewProcess(4711)
	r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) { return p, nil }
	x := r.exec(id, "shell")
	ctx, leave := context.WithCancel(t.Context())
	done, attached := make(chan error, 1), make(chan struct{})
	go func() {
		done <- r.Execs().Start(ctx, x, false, moss.TermSize{}, moss.AttachIO{Stdout: new(output)}, func() { close(attached) })
	}()
	<-attached
	if got, err := r.Execs().Get(x); err != nil || !got.Running || got.PID != 4711 {
		t.Errorf("%+v %v", got, err)
	}
	leave()
	if err := within(t, "the client", done); err == nil {
		t.Error("it stayed")
	}
	if got, err := r.Execs().Get(x); err != nil || !got.Running {
		t.Errorf("%+v %v", got, err)
	}
	p.Exit(5)
	r.over(id, func() { r.units.Exit(id, 0) })
	r.halt()
	r.wantExecCode(x, 5)
}

func TestEndedExecsAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		x := r.exec(id, "true")
		r.must(r.Execs().Start(t.Context(), x, true, moss.TermSize{}, moss.AttachIO{}, func() {}))
		time.Sleep(4 * time.Minute)
		waiting := r.exec(id, "true")
		r.wantExecCode(x, 0)
		time.Sleep(2 * time.Minute)
		r.exec(id, "true")
		_, err := r.Execs().Get(x)
		r.wantClass(err, moss.NotFound)
		_, err = r.Execs().Get(waiting)
		r.must(err)
	})
}
