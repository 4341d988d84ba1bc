package units_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/cgroup"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units"
	"github.com/moss-containers/moss/tests/turn"
)

const (
	testPrefix = "moss-unitstest"
	outerUID   = "MOSS_UNITS_TEST_UID" // set in the process that runs in a user namespace
)

// needManager skips where no user manager runs; the rig of make test has one.
func needManager(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")); err != nil {
		t.Skipf("no user manager here: %v", err)
	}
	if os.Geteuid() == 0 && os.Getenv(outerUID) == "" {
		t.Skip("root has no user manager to talk to")
	}
	if os.Getenv(outerUID) == "" { // a child of this test has its parent's turn
		if err := turn.Take(); err != nil {
			t.Fatal(err)
		}
	}
}

// holder stands in for the units that a container's is bound to.
func holder(t testing.TB) {
	t.Helper()
	name := testPrefix + "-rootless.service"
	run(t, "systemd-run", "--user", "--quiet", "--unit="+name, "sleep", "infinity")
	t.Cleanup(func() { run(t, "systemctl", "--user", "stop", name, strings.ReplaceAll(testPrefix, "-", "_")+".slice") })
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func open(t testing.TB, busOnly bool) *units.Manager {
	t.Helper()
	o := units.Options{Prefix: testPrefix, BusOnly: busOnly}
	if v := os.Getenv(outerUID); v != "" {
		uid, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		o.UID = &uid
	}
	m, err := units.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

type realRig struct {
	m   *units.Manager
	dir string
}

func (r realRig) Units() engine.Units { return r.m }

func (r realRig) Spec(t *testing.T, id moss.ContainerID, fails bool) moss.UnitSpec {
	t.Helper()
	dir := filepath.Join(r.dir, id.Short())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "pid")
	script := fmt.Sprintf("rm -f %[1]s/ctl %[1]s/pid; mkfifo %[1]s/ctl; sh -c 'read c < %[1]s/ctl; exit $c' & echo $! > %[2]s", dir, pidFile)
	if fails {
		script = "exit 3"
	}
	return moss.UnitSpec{
		StopTimeout: 20 * time.Second,
		ID:          id, Description: "test " + t.Name(),
		Launch: moss.Launch{Args: []string{"/bin/sh", "-c", script}, PIDFile: pidFile},
	}
}

func (r realRig) Exit(t *testing.T, id moss.ContainerID, code int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, id.Short(), "ctl"), fmt.Appendln(nil, code), 0); err != nil {
		t.Error(err)
	}
}

func (r realRig) Stop(t *testing.T, id moss.ContainerID) {
	t.Helper()
	run(t, "systemctl", "--user", "stop", r.m.UnitName(id))
}

func (r realRig) Disconnect(t *testing.T) {
	t.Helper()
	units.Disconnect(r.m)
}

func TestContract(t *testing.T) {
	needManager(t)
	holder(t)
	for _, busOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("busOnly=%v", busOnly), func(t *testing.T) {
			porttest.Units(t, func(t *testing.T) porttest.UnitsRig {
				return realRig{m: open(t, busOnly), dir: t.TempDir()}
			})
		})
	}
}

func TestFreezer(t *testing.T) {
	needManager(t)
	holder(t)
	for _, busOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("busOnly=%v", busOnly), func(t *testing.T) {
			porttest.Freezer(t, func(t *testing.T) porttest.UnitsRig {
				return realRig{m: open(t, busOnly), dir: t.TempDir()}
			})
		})
	}
}

// oomRig has files in the place of the kernel's: few machines let a test run out of memory.
type oomRig struct {
	realRig
	counts string
}

func (r oomRig) OOMInside(t *testing.T, id moss.ContainerID) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.counts, "slice", r.m.UnitName(id), "*", "memory.events"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q, %v", files, err)
	}
	n, err := cgroup.OOMKills(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], fmt.Appendf(nil, "max 7\noom_kill %d\n", n+1), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r oomRig) Again(t *testing.T) engine.Units {
	m := open(t, false)
	units.CountOOMsIn(m, r.counts)
	return m
}

func TestOOM(t *testing.T) {
	needManager(t)
	holder(t)
	porttest.OOM(t, func(t *testing.T) porttest.OOMRig {
		r := oomRig{realRig{m: open(t, false), dir: t.TempDir()}, t.TempDir()}
		units.CountOOMsIn(r.m, r.counts)
		return r
	})
}
