package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// bare is crun with the spec that moss makes, in the same user namespace, over
// an unpacked rootfs: no storage, no network, no logs, no record.
type bare struct {
	bundle string
	argv   []string // up to the container's id
	n      int
}

// newBare takes the spec of a container that moss runs.
func newBare(b *testing.B) *bare {
	b.Helper()
	crun, err := exec.LookPath("crun")
	if err != nil {
		b.Skip("crun is not installed: make deps")
	}
	id := suite.must(b, "moss", "run", "-d", "--network", "none", "busybox", "sleep", "600")
	defer suite.must(b, "moss", "rm", "-f", id)
	spec, err := os.ReadFile(filepath.Join(suite.run, "bundles", id, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp(suite.top, "bare-")
	if err != nil {
		b.Fatal(err)
	}
	if spec, err = adapt(spec, dir, "true"); err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"config.json": spec, "hosts": []byte("127.0.0.1 localhost\n"), "hostname": []byte("bench\n"), "resolv.conf": nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	rootfs := filepath.Join(dir, "rootfs")
	for _, d := range []string{rootfs, filepath.Join(dir, "image")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	suite.must(b, "tar", "-xf", filepath.Join(suite.top, "busybox.tar"), "-C", filepath.Join(dir, "image"))
	suite.must(b, "tar", "-xf", filepath.Join(dir, "image", "layer.tar"), "-C", rootfs)
	for _, name := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"} {
		if err := os.WriteFile(filepath.Join(rootfs, name), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	pid, err := os.ReadFile(filepath.Join(suite.run, "rootless", "child_pid"))
	if err != nil {
		b.Fatal(err)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		b.Fatal(err)
	}
	return &bare{bundle: dir, argv: []string{
		nsenter, "-t", strings.TrimSpace(string(pid)), "-U", "-m", "--preserve-credentials",
		// The container stays in its unit's cgroup, as moss's does.
		crun, "--cgroup-manager", "disabled", "--root", filepath.Join(dir, "state"), "run", "--bundle", dir,
	}}
}

// adapt turns the spec of a container of moss into one of a bundle at dir. All
// that costs the runtime time stays, docker's seccomp profile above all.
func adapt(spec []byte, dir string, args ...string) ([]byte, error) {
	var s map[string]any
	if err := json.Unmarshal(spec, &s); err != nil {
		return nil, err
	}
	linux, _ := s["linux"].(map[string]any)
	process, _ := s["process"].(map[string]any)
	if linux["seccomp"] == nil || process == nil {
		return nil, errors.New("the spec has no seccomp profile or no process")
	}
	s["ociVersion"] = "1.0.2" // older runtimes refuse what they do not know
	s["root"] = map[string]any{"path": filepath.Join(dir, "rootfs")}
	process["args"] = args
	delete(linux, "cgroupsPath")
	namespaces, _ := linux["namespaces"].([]any)
	for _, n := range namespaces {
		delete(n.(map[string]any), "path")
	}
	mounts, _ := s["mounts"].([]any)
	for _, m := range mounts {
		if m := m.(map[string]any); m["type"] == "bind" {
			m["source"] = filepath.Join(dir, filepath.Base(m["destination"].(string)))
		}
	}
	return json.Marshal(s)
}

// next is the command line of the next container, and a name for its unit.
func (c *bare) next() (unit string, argv []string) {
	c.n++
	id := "bare-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(c.n)
	return prefix + "-" + id + ".service", append(append([]string(nil), c.argv...), id)
}

// bySystemdRun is what a user types.
func (c *bare) bySystemdRun() error {
	unit, argv := c.next()
	_, err := suite.output(append([]string{"systemd-run", "--user", "--quiet", "--wait", "--collect", "--unit", unit}, argv...)...)
	return err
}

// byDBus is the least there can be: a resident process, whose own time is not
// counted, asks the manager; the job is done when the process has ended.
func (c *bare) byDBus(conn *sd.Conn) error {
	unit, argv := c.next()
	type command struct {
		Path   string
		Args   []string
		Ignore bool
	}
	prop := func(name string, v any) sd.Property { return sd.Property{Name: name, Value: dbus.MakeVariant(v)} }
	done := make(chan string, 1)
	_, err := conn.StartTransientUnitContext(context.Background(), unit, "fail", []sd.Property{
		prop("Type", "oneshot"), prop("CollectMode", "inactive-or-failed"), prop("Delegate", true),
		prop("ExecStart", []command{{argv[0], argv, false}}),
	}, done)
	if err != nil {
		return err
	}
	if result := <-done; result != "done" {
		return fmt.Errorf("unit %s: %s; journalctl --user -u %s tells more", unit, result, unit)
	}
	return nil
}

// podman's command line, in directories of its own; nil before podmanUp.
var podman []string

// podmanUp loads the image into a podman of the suite's own.
func podmanUp(b *testing.B) bool {
	b.Helper()
	if podman != nil {
		return true
	}
	path, err := exec.LookPath("podman")
	if err != nil {
		return false
	}
	run := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix+"-podman")
	podman = []string{
		path, "--storage-driver", "overlay", "--root", filepath.Join(suite.top, "podman"),
		"--runroot", run, "--tmpdir", filepath.Join(run, "tmp"), "--cgroup-manager", "systemd",
	}
	suite.must(b, append(podman, "load", "-q", "-i", filepath.Join(suite.top, "busybox.tar"))...)
	return true
}

// podmanRun is podman's run with these arguments, but for the limit that podman
// sets by itself and cannot where the user has no pids controller.
func podmanRun(argv ...string) []string {
	run := pod("run")
	if !controller("pids") {
		run = append(run, "--pids-limit", "-1")
	}
	return append(run, argv...)
}

func controller(name string) bool {
	data, err := os.ReadFile(filepath.Join(cgroups, "user.slice", fmt.Sprintf("user-%d.slice/user@%[1]d.service/cgroup.controllers", os.Getuid())))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(data))+" ", " "+name+" ")
}

// podmanDown ends the process that holds podman's user namespace.
func podmanDown() error {
	if podman == nil {
		return nil
	}
	_, err := suite.output(append(podman, "system", "migrate")...)
	return errors.Join(err, os.RemoveAll(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix+"-podman")))
}
