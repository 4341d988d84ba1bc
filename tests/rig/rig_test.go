package rig_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/rig"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"test-1": true, "": false, "../x": false, "A": false, "a b": false} {
		if err := rig.CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
}

func TestDoWithoutSupervisor(t *testing.T) {
	err := rig.Do(t.Context(), t.TempDir()+"/sock", rig.Request{Verb: rig.Reboot}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot reach the rig") {
		t.Errorf("got %v", err)
	}
}

// A second rig, booted from inside the first, keeps its /home and nothing
// else over a reboot, reports exit statuses, and kills what its client leaves.
func TestMachine(t *testing.T) {
	m := rig.New(t, "selftest")
	ctx := t.Context()
	must := func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(out)
	}

	if got := must(m.User(ctx, `echo "$(id -un) $PWD"`)); got != "alice /home/alice" {
		t.Errorf("user is %q", got)
	}
	if got := must(m.User(ctx, "systemctl --user is-system-running --wait")); got != "running" {
		t.Errorf("user manager is %q", got)
	}
	if got := must(m.Root(ctx, "systemctl is-system-running --wait; id -u")); got != "running\n0" {
		t.Errorf("system manager is %q", got)
	}
	if got := must(m.User(ctx, "unshare --user --map-auto --map-root-user wc -l </proc/self/uid_map; curl -sg 'http://[2001:db8::1]:1' || echo $?")); !strings.HasSuffix(got, "7") {
		t.Errorf("refused connection: curl says %q", got)
	}

	_, err := m.User(ctx, "exit 42")
	if exit, ok := errors.AsType[*rig.ExitError](err); !ok || exit.Code != 42 {
		t.Errorf("exit 42 came back as %v", err)
	}

	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := m.User(short, "exec sleep 4711"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging up: %v", err)
	}
	must(m.Root(ctx, "while pgrep -f '^sleep 4711'; do :; done")) // the test's own time-out is the limit

	must(m.User(ctx, "touch kept /tmp/lost $XDG_RUNTIME_DIR/lost"))
	boots := must(m.Root(ctx, "systemctl show -P UserspaceTimestampMonotonic"))
	if err := m.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if got := must(m.User(ctx, "ls /home/alice /tmp/lost $XDG_RUNTIME_DIR/lost 2>/dev/null || true")); !strings.Contains(got, "kept") || strings.Contains(got, "lost") {
		t.Errorf("after the reboot: %q", got)
	}
	if got := must(m.Root(ctx, "systemctl show -P UserspaceTimestampMonotonic")); got == boots {
		t.Error("systemd is the same after a reboot")
	}
}

// The first rig's environment is what the other tests count on.
func TestInside(t *testing.T) {
	if os.Getenv(rig.SocketEnv) == "" {
		t.Skip("not in a rig")
	}
	if os.Getuid() == 0 {
		t.Error("tests run as root")
	}
	if _, err := os.Stat("rig_test.go"); err != nil {
		t.Error("the working directory is not the package's:", err)
	}
	if os.Getenv("XDG_RUNTIME_DIR") == "" || os.Getenv("MOSS_BIN") == "" {
		t.Error("the environment lacks XDG_RUNTIME_DIR or MOSS_BIN")
	}
}
