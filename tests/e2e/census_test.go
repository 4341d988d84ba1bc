package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// census counts all that a container may leave: by kind, the names of what is
// there.
type census map[string][]string

type censusKey struct{}

func (c census) has(kind, name string) bool { return slices.Contains(c[kind], name) }

func (e *engine) census() (census, error) {
	c := census{}
	// Mounts in the holder's namespace.
	pid, err := os.ReadFile(filepath.Join(e.run, "rootless/child_pid"))
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "mountinfo"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		c["mount"] = append(c["mount"], strings.Fields(line)[4])
	}
	for kind, dir := range map[string]string{"netns": "netns", "bundle": "bundles", "runtime state": "runtime"} {
		entries, err := os.ReadDir(filepath.Join(e.run, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, d := range entries {
			c[kind] = append(c[kind], d.Name())
		}
	}
	if err := e.unitCensus(c); err != nil {
		return nil, err
	}
	records, err := e.output("docker", "ps", "--all", "--quiet", "--no-trunc")
	c["record"] = strings.Fields(records)
	return c, err
}

// unitCensus counts what systemd has of containers.
func (e *engine) unitCensus(c census) error {
	if withoutSystemd {
		return nil
	}
	units, err := e.output("systemctl", "--user", "list-units", "--all", "--plain", "--no-legend", prefix+"-*.service")
	if err != nil {
		return err
	}
	for line := range strings.Lines(units) {
		c["unit"] = append(c["unit"], strings.Fields(line)[0])
	}
	c["cgroup"], err = e.cgroups()
	return err
}

// cgroups lists the cgroups of units in the engine's slice.
func (e *engine) cgroups() ([]string, error) {
	at, err := e.output("systemctl", "--user", "show", "--property=ControlGroup", "--value", strings.ReplaceAll(prefix, "-", "_")+".slice")
	if err != nil {
		return nil, err
	}
	at = strings.TrimSpace(at)
	if at == "" {
		return nil, nil // the slice is gone with its last unit
	}
	mount := "/sys/fs/cgroup"
	if _, err := os.Stat(mount + "/unified"); err == nil {
		mount += "/unified"
	}
	entries, err := os.ReadDir(filepath.Join(mount, at))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, d := range entries {
		if d.IsDir() {
			names = append(names, d.Name())
		}
	}
	return names, err
}

// settled waits until nothing is there that was not there before.
func (e *engine) settled(before census) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		now, err := e.census()
		if err != nil {
			return err
		}
		var left []string
		for kind, names := range now {
			old := slices.Clone(before[kind])
			for _, n := range names {
				if i := slices.Index(old, n); i >= 0 {
					old = slices.Delete(old, i, i+1) // a place may be mounted over twice
					continue
				}
				left = append(left, kind+" "+n)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			slices.Sort(left)
			return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		}
	}
}
