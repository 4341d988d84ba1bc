package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/records"
)

// The rows of the table of restore (docs/ARCHITECTURE.md) that hardly any kill
// of the daemon hits: records are made to say what they say there, and units are
// made with systemd-run.
func TestRestoreRows(t *testing.T) {
	if withoutSystemd {
		t.Skip("systemd-run makes the units")
	}
	leakFree(t)
	restarted := func(c *moss.Container) { c.Stopped, c.Intent = true, moss.IntentRestart }
	forced := func(c *moss.Container) { c.Stopped, c.Intent = true, moss.IntentRemove }
	removing := func(c *moss.Container) { c.State, c.Intent = moss.StateRemoving, moss.IntentRemove }
	const sleeps, ends, second = "sleep 1000", "exit 3", "test -e /ran && exec sleep 1000; touch /ran; exit 3"
	rows := []struct {
		name   string
		verb   string // create or run
		does   string // in a shell
		change func(*moss.Container)
		unit   []string // what somebody runs in its unit
		busy   bool     // something is mounted in its directory
		kill   bool     // its process ends while there is no daemon
		want   string   // state and exit code; "" for that it is gone
	}{
		{name: "created-active", verb: "create", does: sleeps, unit: []string{"sleep", "1000"}, want: "created 0"},
		{name: "exited-active", verb: "run", does: ends, unit: []string{"sleep", "1000"}, want: "exited 3"},
		{name: "exited-ended", verb: "run", does: ends, unit: []string{"true"}, want: "exited 3"},
		{name: "exited-failed", verb: "run", does: ends, unit: []string{"false"}, want: "exited 3"},
		{name: "removing-gone", verb: "create", does: sleeps, change: removing},
		{name: "removing-active", verb: "start", does: sleeps, change: removing},
		{name: "removing-ended", verb: "start", does: sleeps, change: removing, kill: true},
		{name: "removing-busy", verb: "start", does: sleeps, change: removing, busy: true, want: "dead 0"},
		{name: "exited-removal", verb: "run", does: ends, change: func(c *moss.Container) { c.Intent = moss.IntentRemove }},
		{name: "running-removal", verb: "start", does: sleeps, change: forced},
		{name: "ended-removal", verb: "start", does: sleeps, change: forced, kill: true},
		{name: "ended-restart", verb: "start", does: sleeps, change: restarted, kill: true, want: "running 0"},
		{name: "exited-restart", verb: "run", does: second, change: func(c *moss.Container) { c.Stopped, c.Intent = true, moss.IntentStart }, want: "running 0"},
		{name: "dead-active", verb: "run", does: ends, change: func(c *moss.Container) { c.State, c.Intent = moss.StateDead, moss.IntentRemove }, unit: []string{"sleep", "1000"}, want: "dead 3"},
	}
	ids, pids := map[string]string{}, map[string]int{}
	for _, r := range rows {
		remove(t, r.name)
		ids[r.name] = must(t, "docker", "create", "--name", r.name, "busybox", "sh", "-c", r.does)
		switch r.verb {
		case "run":
			must(t, "docker", "start", r.name)
			must(t, "docker", "wait", r.name)
		case "start":
			must(t, "docker", "start", r.name)
			pid, err := strconv.Atoi(must(t, "docker", "inspect", "-f", "{{.State.Pid}}", r.name))
			if err != nil {
				t.Fatal(err)
			}
			pids[r.name] = pid
		}
	}
	unit := func(name string) string { return prefix + "-" + ids[name][:12] + ".service" }
	dir := func(name string) string {
		return filepath.Join(suite.top, "data", prefix, "containers", ids[name], "busy")
	}
	inHolder := func(args ...string) string {
		t.Helper()
		pid, err := os.ReadFile(filepath.Join(suite.run, "rootless/child_pid"))
		if err != nil {
			t.Fatal(err)
		}
		return must(t, slices.Concat([]string{"nsenter", "-t", strings.TrimSpace(string(pid)), "-U", "--preserve-credentials", "-m", "--"}, args)...)
	}
	must(t, "systemctl", "--user", "stop", prefix+".socket", prefix+".service")
	t.Cleanup(func() { must(t, "systemctl", "--user", "start", prefix+".socket") })
	rewrite(t, func(c *moss.Container) bool {
		for _, r := range rows {
			if r.name == c.Name && r.change != nil {
				r.change(c)
				return true
			}
		}
		return false
	})
	for _, r := range rows {
		if r.unit != nil {
			must(t, slices.Concat([]string{"systemd-run", "--user", "--quiet", "--remain-after-exit", "--unit", unit(r.name)}, r.unit)...)
		}
		if r.busy {
			inHolder("mkdir", dir(r.name))
			inHolder("mount", "-t", "tmpfs", "none", dir(r.name))
		}
		if r.kill {
			if err := syscall.Kill(pids[r.name], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			until(t, "its unit's end", func() bool { return !alive(pids[r.name]) })
		}
	}
	must(t, "systemctl", "--user", "start", prefix+".socket")
	state := func(name string) string {
		out, err := suite.output("docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(out)
	}
	for _, r := range rows {
		if r.want == "" || strings.HasPrefix(r.want, "running") { // behind the daemon's first answer
			until(t, r.name+" is "+r.want, func() bool { return state(r.name) == r.want })
		}
		if got := state(r.name); got != r.want {
			t.Errorf("%s: the container is %q, want %q", r.name, got, r.want)
		}
		if pid := pids[r.name]; pid != 0 && alive(pid) {
			t.Errorf("%s: its process still runs", r.name)
		}
		if strings.HasPrefix(r.want, "running") {
			continue
		}
		if got := must(t, "systemctl", "--user", "show", "--property=LoadState", "--value", unit(r.name)); got != "not-found" {
			t.Errorf("%s: the unit is %s", r.name, got)
		}
	}
	// What failed can be tried again, and fails as long as the reason is there.
	if out, err := suite.output("docker", "rm", "removing-busy"); err == nil || state("removing-busy") != "dead 0" {
		t.Errorf("removed although it is busy: %s, %v, now %q", out, err, state("removing-busy"))
	}
	inHolder("umount", dir("removing-busy"))
	for _, r := range rows {
		switch {
		case r.want == "":
		case strings.HasPrefix(r.want, "created"): // nothing is in its way
			must(t, "docker", "start", r.name)
			must(t, "docker", "rm", "-f", r.name)
		case strings.HasPrefix(r.want, "running"):
			must(t, "docker", "rm", "-f", r.name)
		default:
			must(t, "docker", "rm", r.name)
		}
	}
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// rewrite changes records while there is no daemon.
func rewrite(t *testing.T, change func(*moss.Container) bool) {
	t.Helper()
	store, err := records.Open(filepath.Join(suite.top, "data", prefix, "moss.db"), filepath.Join(suite.run, "run.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	all, _, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if change(c) {
			if err := store.Put(c, true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A daemon that is killed while it removes containers leaves each of them as it
// was, or gone, or to be removed again; and nothing of those that are gone.
func TestKilledRemoval(t *testing.T) {
	leakFree(t)
	before := stored(t)
	const many = 6
	name := func(i int) string { return fmt.Sprintf("removed-%d", i) }
	all := func() (names []string) {
		for i := range many {
			names = append(names, name(i))
		}
		return names
	}
	fill := func() {
		for i := range many {
			args := []string{"docker", "create", "--name", name(i), "-v", "/volume", "busybox", "sleep", "1000"}
			must(t, args...)
			if i%3 == 0 {
				must(t, "docker", "start", name(i))
			}
		}
	}
	rounds := 2
	if os.Getenv("MOSS_LONG") != "" {
		rounds = 30
	}
	fill()
	begun := time.Now()
	must(t, append([]string{"docker", "rm", "-fv"}, all()...)...)
	whole := time.Since(begun)
	hits := 0
	for round := range rounds {
		fill()
		c := begin(t, append([]string{"docker", "rm", "-fv"}, all()...)...)
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(whole)))):
		case <-c.done:
		}
		if err := suite.kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = c.wait()
		left := strings.Fields(must(t, "docker", "ps", "-a", "--filter", "name=removed-", "--format", "{{.Names}}={{.State}}"))
		if len(left) > 0 && len(left) < many {
			hits++
		}
		for _, l := range left {
			n, state, _ := strings.Cut(l, "=")
			if !slices.Contains([]string{"created", "running", "exited"}, state) {
				t.Errorf("round %d: %s is %s", round, n, state)
			}
			must(t, "docker", "rm", "-fv", n)
		}
		emptied(t, before)
	}
	t.Logf("a removal of %d takes %s; %d of %d kills hit one", many, whole, hits, rounds)
}
