package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// deviceMounts bind the host's nodes: a user cannot make any.
func deviceMounts(h moss.HostConfig) []specs.Mount {
	var out []specs.Mount
	for _, d := range h.Devices {
		out = append(out, specs.Mount{
			Destination: d.Container, Type: "bind", Source: d.Host, Options: []string{"rbind", "nosuid", "noexec", "rprivate"},
		})
	}
	return out
}

// checkDevices looks whether the devices are there and a container of this user
// could open them.
func checkDevices(devices []moss.Device) error {
	for _, d := range devices {
		if err := checkDevice(d.Host); err != nil {
			return err
		}
	}
	return nil
}

func checkDevice(path string) error {
	const gathering = `error gathering device information while adding custom device "%s": `
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return moss.Errorf(moss.Invalid, gathering+"no such file or directory", path)
	}
	if err != nil {
		return moss.Errorf(moss.Invalid, gathering+"%w", path, err)
	}
	if st.IsDir() {
		return checkDeviceDir(path)
	}
	if st.Mode()&fs.ModeDevice == 0 {
		return moss.Errorf(moss.Invalid, gathering+"not a device node", path)
	}
	if !openable(path) {
		return moss.Errorf(moss.Forbidden,
			"cannot give the container the device %s: this user may not open it for reading and writing; the administrator can allow it: setfacl -m u:USER:rw %[1]s, or a udev rule with TAG+=\"uaccess\"", path)
	}
	return nil
}

// checkDeviceDir wants a directory to have devices, as docker does.
func checkDeviceDir(dir string) error {
	all, err := devices(dir)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return moss.Errorf(moss.Invalid, `error gathering device information while adding custom device "%s": no devices found`, dir)
	}
	return nil
}

// openable says whether a container may open a node for reading and writing:
// by its owner, by its permissions for all, or by an access control list. What
// this process may by one of its groups, the container may not: it has none of
// the host's.
func openable(path string) bool {
	var st unix.Stat_t
	if unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK, 0) != nil || unix.Stat(path, &st) != nil {
		return false
	}
	if st.Mode&0o006 == 0o006 || st.Uid == 0 { // uid 0 here is this user
		return true
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	n, err := unix.Getxattr(real, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
