package storage

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// tuning is what the storage-opts of the daemon's configuration ask for.
type tuning struct {
	mountOptions string // of each mount of the kernel's or of the mount program
	mountProgram string
}

// notHere are options of docker's and of containers/storage that moss cannot
// have, and what to do instead.
var notHere = map[string]string{
	"size":                  "project quotas are set by the machine's root alone; ask for a quota of the user, or put the data root on a file system of that size",
	"inodes":                "project quotas are set by the machine's root alone; ask for a quota of the user",
	"basesize":              "it belongs to another driver",
	"ignore_chown_errors":   "files keep their owners; give the user more ids in /etc/subuid and /etc/subgid",
	"force_mask":            "files keep their modes; put the data root on a local file system",
	"imagestore":            "images are kept in one store; use docker save and docker load",
	"additionalimagestores": "images are kept in one store; use docker save and docker load",
	"override_kernel_check": "whether a driver works is found out by trying; leave the option out",
}

const validOptions = "overlay.mountopt=OPTION,… and overlay.mount_program=PATH"

// parseTuning reads options "overlay.NAME=VALUE"; docker writes overlay2.
func parseTuning(options []string) (tuning, error) {
	var t tuning
	for _, o := range options {
		key, value, ok := strings.Cut(o, "=")
		name := strings.ToLower(strings.TrimSpace(key))
		other := false // driver's
		for _, driver := range []string{"overlay.", "overlay2.", "vfs.", "dm.", "."} {
			if rest, ok := strings.CutPrefix(name, driver); ok {
				name, other = rest, driver == "vfs." || driver == "dm."
				break
			}
		}
		if why, known := notHere[name]; known {
			return t, moss.Errorf(moss.Invalid, "storage option %q cannot be had here: %s", key, why)
		}
		switch {
		case !ok || other || strings.Contains(value, "\x00"):
		case name == "mountopt":
			if err := checkMountOptions(value); err != nil {
				return t, err
			}
			t.mountOptions = value
			continue
		case name == "mount_program":
			if !filepath.IsAbs(value) {
				return t, moss.Errorf(moss.Invalid, "storage option %q wants an absolute path, not %q", key, value)
			}
			t.mountProgram = value
			continue
		}
		return t, moss.Errorf(moss.Invalid, "unknown storage option %q; there are %s", o, validOptions)
	}
	return t, nil
}

// checkMountOptions refuses what makes a layer on disk more or less than what
// its container changed, and what the store sets itself.
func checkMountOptions(value string) error {
	for o := range strings.SplitSeq(value, ",") {
		name, v, _ := strings.Cut(o, "=")
		switch {
		case o == "":
			return moss.Errorf(moss.Invalid, "storage option overlay.mountopt is %q: an option in it is empty", value)
		case slices.Contains([]string{"lowerdir", "upperdir", "workdir", "userxattr"}, name):
			return moss.Errorf(moss.Invalid, "storage option overlay.mountopt cannot have %q: moss sets it", o)
		case slices.Contains([]string{"metacopy", "redirect_dir"}, name) && v != "off" && v != "nofollow":
			return moss.Errorf(moss.Invalid, "storage option overlay.mountopt cannot have %q: the kernel refuses it to users", o)
		case name == "ro" || name == "volatile":
			return moss.Errorf(moss.Invalid, "storage option overlay.mountopt cannot have %q: it holds for all containers; moss uses it where it is right", o)
		}
	}
	return nil
}
