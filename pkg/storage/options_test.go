package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestOptions(t *testing.T) {
	for option, want := range map[string]string{
		"overlay.mountopt=nodev,noatime":          "",
		"overlay2.mountopt=metacopy=off":          "",
		"overlay.mount_program=/usr/bin/fuse":     "",
		"overlay.mount_program=fuse":              "absolute",
		"overlay.mountopt=":                       "empty",
		"overlay.mountopt=nodev,metacopy=on":      "refuses",
		"overlay.mountopt=upperdir=/x":            "moss sets it",
		"overlay2.size=10G":                       "quota",
		"size=10G":                                "quota",
		"overlay.ignore_chown_errors=true":        "/etc/subuid",
		"overlay.force_mask=700":                  "modes",
		"overlay2.override_kernel_check=true":     "leave the option out",
		"overlay.nonsense=1":                      "there are overlay.mountopt",
		"overlay.mountopt":                        "there are overlay.mountopt",
		"vfs.mountopt=nodev":                      "there are overlay.mountopt",
		"dm.basesize=10G":                         "another driver",
		"overlay.additionalimagestores=/var/shar": "one store",
	} {
		_, err := parseTuning([]string{option})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", option, err)
		case want != "" && (moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", option, err, want)
		}
	}
}

func TestMountOptionsAreUsed(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{
		GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: driverOverlay,
		DriverOptions: []string{"overlay.mountopt=nodev,noatime"},
	})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if i := fmt.Sprint(s.Info()); !strings.Contains(i, "Mount Options nodev,noatime") {
		t.Errorf("Info is %s", i)
	}
	_, root := container(t, s, image(t, s, hello))
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if strings.Contains(line, root) && strings.Contains(line, "noatime") {
			return
		}
	}
	t.Errorf("the mount has no such option:\n%s", mounts)
}
