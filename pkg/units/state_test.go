package units

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		s    state
		want moss.UnitStatus
	}{
		{"job queued", state{Active: "inactive", Job: 4}, moss.UnitStatus{Phase: moss.UnitStarting}},
		{"launcher runs", state{Active: "activating", Sub: "start"}, moss.UnitStatus{Phase: moss.UnitStarting}},
		{"runs", state{Active: "active", Sub: "running", MainPID: 7, ExecMainPID: 7}, moss.UnitStatus{Phase: moss.UnitRunning, PID: 7}},
		{
			"exited",
			state{Active: "active", Sub: "exited", ExecMainPID: 7, ExecMainCode: cldExited, Result: "success"},
			moss.UnitStatus{Phase: moss.UnitEnded, PID: 7, Exited: true, Result: "success"},
		},
		{
			"failed",
			state{Active: "failed", Sub: "failed", ExecMainPID: 7, ExecMainCode: cldExited, ExecMainStatus: 42, Result: "exit-code"},
			moss.UnitStatus{Phase: moss.UnitEnded, PID: 7, Exited: true, ExitCode: 42, Result: "exit-code"},
		},
		{
			"dumped core",
			state{Active: "failed", Sub: "failed", ExecMainPID: 7, ExecMainCode: cldDumped, ExecMainStatus: 11},
			moss.UnitStatus{Phase: moss.UnitEnded, PID: 7, Exited: true, ExitCode: 139},
		},
		{
			"out of memory",
			state{Active: "failed", Sub: "failed", ExecMainPID: 7, ExecMainCode: cldKilled, ExecMainStatus: 9, Result: "oom-kill"},
			moss.UnitStatus{Phase: moss.UnitEnded, PID: 7, Exited: true, ExitCode: 137, OOMKills: 1, Result: "oom-kill"},
		},
		{
			"launcher failed",
			state{Active: "failed", Sub: "failed", Result: "exit-code"},
			moss.UnitStatus{Phase: moss.UnitEnded, Result: "exit-code"},
		},
		{"stops, process there", state{Active: "deactivating", MainPID: 7, ExecMainPID: 7}, moss.UnitStatus{Phase: moss.UnitStopping, PID: 7}},
		{
			"stopped by others",
			state{Active: "inactive", Sub: "dead", ExecMainPID: 7, ExecMainCode: cldKilled, ExecMainStatus: 15},
			moss.UnitStatus{Phase: moss.UnitGone, PID: 7, Exited: true, ExitCode: 143},
		},
		{
			"restart by others",
			state{Active: "inactive", Job: 9, ExecMainPID: 7, ExecMainCode: cldKilled, ExecMainStatus: 15},
			moss.UnitStatus{Phase: moss.UnitEnded, PID: 7, Exited: true, ExitCode: 143},
		},
	} {
		if got := c.s.status(""); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, name := range []string{"moss-0123456789ab.service", "a_b-c.service", "_", "ä"} {
		if got := unescape(sd.PathBusEscape(name)); got != name {
			t.Errorf("unescape of %q's path gives %q", name, got)
		}
	}
}

func TestApplyKeepsWhatIsNotTold(t *testing.T) {
	s := state{Active: "active", MainPID: 3}
	s.apply(map[string]dbus.Variant{"MainPID": dbus.MakeVariant("of the wrong type"), "Result": dbus.MakeVariant("success")})
	if s.Active != "active" || s.MainPID != 3 || s.Result != "success" {
		t.Errorf("%+v", s)
	}
}

func TestBusPath(t *testing.T) {
	for addr, want := range map[string]string{
		"unix:path=/run/user/1000/bus":                        "/run/user/1000/bus",
		"tcp:host=x;unix:guid=1,path=/a%20b":                  "/a b",
		"unix:abstract=/tmp/dbus-x,guid=0011":                 "@/tmp/dbus-x",
		"tcp:host=localhost,port=1":                           "",
		"unix:path=/run/user/1/bus,guid=00112233445566778899": "/run/user/1/bus",
	} {
		if got, err := busPath(addr); got != want || (err == nil) != (want != "") {
			t.Errorf("busPath(%q) = %q, %v; want %q", addr, got, err, want)
		}
	}
}

func TestControllersAt(t *testing.T) {
	mount := t.TempDir()
	if _, err := controllersAt(mount, "/user"); err == nil {
		t.Error("no error without a cgroup")
	}
	dir := filepath.Join(mount, "unified", "user")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := controllersAt(mount, "/user"); err != nil || !slices.Equal(got, []string{"cpu", "memory", "pids"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestFreezerError(t *testing.T) {
	for name, want := range map[string]moss.Class{
		"org.freedesktop.DBus.Error.NotSupported": moss.NotImplemented,
		"org.freedesktop.systemd1.NoSuchUnit":     moss.Conflict,
		"org.freedesktop.systemd1.UnitInactive":   moss.Conflict,
		"org.freedesktop.DBus.Error.NoReply":      moss.Internal,
	} {
		if got := moss.ClassOf(freezerError(dbus.Error{Name: name})); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// A state keeps nothing of the messages that it is made of.
func TestApplyCopies(t *testing.T) {
	block := strings.Repeat("active", 600)
	text := block[6:12]
	var s state
	s.apply(map[string]dbus.Variant{
		"LoadState": dbus.MakeVariant(text), "ActiveState": dbus.MakeVariant(text), "SubState": dbus.MakeVariant(text),
		"Result": dbus.MakeVariant(text), "FreezerState": dbus.MakeVariant(text),
	})
	for _, kept := range []string{s.Load, s.Active, s.Sub, s.Result, s.Freezer} {
		if kept != text || unsafe.StringData(kept) == unsafe.StringData(text) {
			t.Errorf("%q, which may be the message's", kept)
		}
	}
}
