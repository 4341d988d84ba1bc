package api

import (
	"os"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// kernelAppArmor says whether the kernel confines by AppArmor profiles.
func kernelAppArmor() bool {
	on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(on), "Y")
}

// appArmor reads the name of a profile. A user may not load profiles, and may not
// ask whether one is loaded, but may have himself confined by one: the kernel
// tells at the start.
func (d *createDecoder) appArmor(opt, profile string) error {
	switch {
	case profile == "unconfined":
		return nil
	case profile == "":
		return invalid("invalid --security-opt: %q", opt)
	case !d.s.appArmor():
		return moss.Errorf(moss.NotImplemented, "--security-opt %s: this machine's kernel has no AppArmor: use apparmor=unconfined", opt)
	}
	d.out.Host.AppArmor = profile
	return nil
}
