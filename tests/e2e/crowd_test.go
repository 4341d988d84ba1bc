package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A crowd of containers outlives kill -9 of the daemon: all are there again
// within a few seconds with their processes, and what happened to some of them
// meanwhile stops none of the others. MOSS_LONG: 300 of them.
func TestRestoreCrowd(t *testing.T) {
	leakFree(t)
	n := 60
	if os.Getenv("MOSS_LONG") != "" {
		n = 300
	}
	r := newRemote()
	ids, pids := make([]string, n), make([]int, n)
	t.Cleanup(func() {
		err := sideBySide(n, func(i int) error {
			if ids[i] == "" {
				return nil
			}
			return r.call("DELETE", "/containers/"+ids[i]+"?force=1", nil, nil)
		})
		if err != nil {
			t.Error(err)
		}
	})
	begun := time.Now()
	err := sideBySide(n, func(i int) (err error) {
		s := spec{Image: "busybox", Cmd: []string{"sleep", "inf"}, StopTimeout: new(0), HostConfig: hostSpec{NetworkMode: "none"}}
		if i%10 == 9 {
			s.Image, s.Cmd = "moss/hello", nil
			s.HostConfig.NetworkMode = "bridge"
			s.HostConfig.PortBindings = map[string][]map[string]string{"80/tcp": {{"HostIp": "127.0.0.1"}}}
		}
		if i == exitsAway || i == comesAgain {
			s.Cmd = []string{"sh", "-c", `trap 'exit 7' USR1; echo ready; while :; do sleep 0.1; done`}
		}
		if i == comesAgain || i == unitGoneAgain || i == unitStopped {
			s.HostConfig.RestartPolicy = map[string]any{"Name": "on-failure"}
		}
		if ids[i], err = r.create(fmt.Sprintf("crowd%d", i), s); err != nil {
			return err
		}
		if err := r.call("POST", "/containers/"+ids[i]+"/start", nil, nil); err != nil {
			return err
		}
		c, err := r.inspect(ids[i])
		pids[i] = c.State.Pid
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d containers started in %s", n, time.Since(begun).Round(time.Millisecond))
	portOf := func(i int) string {
		c, err := r.inspect(ids[i])
		if err != nil || len(c.NetworkSettings.Ports["80/tcp"]) != 1 {
			t.Fatalf("container %d has no port: %v", i, err)
		}
		return c.NetworkSettings.Ports["80/tcp"][0].HostPort
	}
	ports := map[int]string{}
	for i := 9; i < n; i += 10 {
		ports[i] = portOf(i)
	}
	for _, i := range []int{exitsAway, comesAgain} {
		until(t, "the trap is set", func() bool {
			return strings.Contains(must(t, "docker", "logs", ids[i]), "ready")
		})
	}

	// Nothing happened: all of it is as it was.
	took, cpu := killAndTime(t, nil)
	t.Logf("%d containers: the next daemon answers %s after kill -9 (systemd waits 100 ms of them), having used %s of processor", n, took, cpu)
	for i := range n {
		c, err := r.inspect(ids[i])
		if err != nil || c.State.Status != "running" || c.State.Pid != pids[i] {
			t.Errorf("container %d, pid %d: %+v, %v", i, pids[i], c.State, err)
		}
	}
	if cpu > time.Duration(n)*20*time.Millisecond+2*time.Second {
		t.Errorf("%s of processor is too much", cpu)
	}

	// Much happens while no daemon looks.
	orphan := prefix + "-0123456789ab"
	took, cpu = killAndTime(t, func() {
		signal(t, pids[exitsAway], syscall.SIGUSR1)
		signal(t, pids[comesAgain], syscall.SIGUSR1)
		signal(t, pids[killedAway], syscall.SIGKILL)
		unit := func(i int) string { return prefix + "-" + ids[i][:12] + ".service" }
		for _, i := range []int{unitGone, unitStopped} {
			must(t, "systemctl", "--user", "stop", unit(i))
			_, _ = suite.output("systemctl", "--user", "reset-failed", unit(i)) // what ended well is gone already
		}
		signal(t, pids[unitGoneAgain], syscall.SIGKILL)
		until(t, "the unit has failed", func() bool {
			_, err := suite.output("systemctl", "--user", "is-failed", "--quiet", unit(unitGoneAgain))
			return err == nil
		})
		must(t, "systemctl", "--user", "reset-failed", unit(unitGoneAgain))
		must(t, "systemd-run", "--user", "--quiet", "--unit", orphan, "--slice", strings.ReplaceAll(prefix, "-", "_"), "sleep", "inf")
		damage(t, ids[damaged])
	})
	t.Logf("with seven strokes of fate: %s, %s of processor", took, cpu)
	ends := map[int]struct {
		status string
		code   int
	}{exitsAway: {"exited", 7}, killedAway: {"exited", 137}, unitGone: {"exited", 255}, unitStopped: {"exited", 255}}
	for i := range n {
		c, err := r.inspect(ids[i])
		want, ended := ends[i]
		switch {
		case i == damaged:
			if statusOf(err) != http.StatusNotFound {
				t.Errorf("the one with a damaged record: %+v, %v", c.State, err)
			}
			if syscall.Kill(pids[i], 0) != nil {
				t.Error("the one with a damaged record was ended")
			}
		case i == comesAgain || i == unitGoneAgain:
			until(t, "the restart policy acts", func() bool {
				c, err = r.inspect(ids[i])
				return err == nil && c.State.Status == "running" && c.State.Pid != pids[i]
			})
		case err != nil:
			t.Errorf("container %d: %v", i, err)
		case ended && (c.State.Status != want.status || c.State.ExitCode != want.code):
			t.Errorf("container %d: %+v, want %v", i, c.State, want)
		case !ended && (c.State.Status != "running" || c.State.Pid != pids[i]):
			t.Errorf("container %d, pid %d: %+v", i, pids[i], c.State)
		}
	}
	until(t, "the orphan is stopped", func() bool {
		_, err := suite.output("systemctl", "--user", "is-active", "--quiet", orphan)
		return err != nil
	})
	for i, port := range ports {
		if portOf(i) != port {
			t.Errorf("container %d had port %s and has %s", i, port, portOf(i))
		}
		res, err := http.Get("http://127.0.0.1:" + port + "/")
		if err != nil {
			t.Errorf("container %d: %v", i, err)
			continue
		}
		res.Body.Close()
	}
	out := must(t, "docker", "logs", ids[exitsAway])
	if out != "ready" {
		t.Errorf("the log of one that ended while nobody looked is %q", out)
	}

	// Whoever can read the record again has the container again.
	killAndTime(t, func() { mend(t, ids[damaged]) })
	c, err := r.inspect(ids[damaged])
	if err != nil || c.State.Status != "running" || c.State.Pid != pids[damaged] {
		t.Errorf("the mended one: %+v, %v", c.State, err)
	}
}

// Those of the crowd that something happens to.
const (
	exitsAway = iota
	comesAgain
	killedAway
	unitGone
	unitStopped // which its restart policy heeds
	unitGoneAgain
	damaged
)

// killAndTime kills the daemon with -9, does something while there is none, and
// tells how long the next one took to answer from then on, and what processor
// time it used until then. The daemon is made to stand still first: whatever
// happens meanwhile it cannot take notice of.
func killAndTime(t *testing.T, meanwhile func()) (took, cpu time.Duration) {
	t.Helper()
	old, err := suite.pid()
	if err != nil || old == 0 {
		t.Fatal("there is no daemon", err)
	}
	signal(t, old, syscall.SIGSTOP)
	if meanwhile != nil {
		meanwhile()
	}
	begun := time.Now()
	signal(t, old, syscall.SIGKILL)
	r := newRemote()
	until(t, "the next daemon answers", func() bool {
		return r.call("GET", "/_ping", nil, new([]byte)) == nil
	})
	took = time.Since(begun)
	now, err := suite.pid()
	if err != nil || now == old {
		t.Fatal("the daemon is still the old one", err)
	}
	return took.Round(time.Millisecond), cpuOf(t, now)
}

func signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("cannot signal %d: %v", pid, err)
	}
}

// cpuOf is the processor time of a process and of its children that have ended.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	sum := 0
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime, in ticks of 10 ms
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// damage makes a container's record unreadable on disk, in the journal too, from
// which it would be mended; mend makes it readable again.
func damage(t *testing.T, id string) {
	t.Helper()
	edit(t, `{"ID":"`+id, `<"ID":"`+id)
	editFile(t, filepath.Join(suite.top, "data", prefix, "moss.db.journal"), `{\"ID\":\"`+id, `<\"ID\":\"`+id)
}

func mend(t *testing.T, id string) { t.Helper(); edit(t, `<"ID":"`+id, `{"ID":"`+id) }

func edit(t *testing.T, from, to string) {
	t.Helper()
	hits := 0
	for _, db := range []string{filepath.Join(suite.top, "data", prefix, "moss.db"), filepath.Join(suite.run, "run.db")} {
		hits += editFile(t, db, from, to)
	}
	if hits == 0 {
		t.Fatalf("no record has %q", from)
	}
}

func editFile(t *testing.T, file, from, to string) (hits int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// In place: the file must stay the one it is.
	cmd := exec.Command("dd", "of="+file, "conv=notrunc", "bs=1M", "status=none")
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(text, []byte(from), []byte(to)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bytes.Count(text, []byte(from))
}
