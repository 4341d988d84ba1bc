package runtime

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// The daemon and the runtime were killed before the pid of a probe was written.
func TestEndProbesInTheMaking(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	r := newRig(t)
	b := r.Bundle(t, "sleep", "1000")
	l, err := r.r.Prepare(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Launch(t, b.Container.ID, l); err != nil {
		t.Fatal(err)
	}
	if err := r.r.Start(t.Context(), &b.Container); err != nil {
		t.Fatal(err)
	}
	run := func(command ...string) moss.Process {
		t.Helper()
		p, err := r.r.Exec(t.Context(), &b.Container, &moss.Exec{ID: moss.ExecID(moss.NewHexID()), Config: moss.ExecConfig{Cmd: command}}, moss.ChildStdio{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	older := run("sleep", "2000")
	outside := exec.Command("sleep", "2000")
	time.Sleep(4 * tick) // the clock of processes is as coarse as that
	data, err := json.Marshal(specs.Process{Args: []string{"sleep", "2000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.r.file(b.Container.ID, probePrefix+"x.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	probe, other := run("sleep", "2000"), run("sleep", "3000")
	for _, file := range []string{"y.pid", "z.json"} { // the runtime did not get further
		if err := os.WriteFile(r.r.file(b.Container.ID, probePrefix+file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.r.EndProbes(t.Context(), b.Container.ID); err != nil {
		t.Fatal(err)
	}
	if code, err := probe.Wait(t.Context()); code != 128+int(syscall.SIGKILL) || err != nil {
		t.Errorf("the probe ended with %d, %v", code, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, p := range map[string]moss.Process{"older": older, "other": other} {
		if code, err := p.Wait(ctx); err == nil {
			t.Errorf("the %s exec ended with %d", name, code)
		}
	}
	if err := outside.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a process outside: %v", err)
	}
	if err := outside.Wait(); err == nil || outside.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("a process outside: %v", err)
	}
	if err := r.r.Delete(t.Context(), &b.Container); err != nil {
		t.Fatal(err)
	}
}
