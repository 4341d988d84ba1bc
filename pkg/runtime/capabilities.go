package runtime

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/moss-containers/moss/pkg/moss"
)

// defaultCapabilities are docker's.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE",
}

// allCapabilities is what --cap-add and --cap-drop call every capability.
const allCapabilities = "ALL"

// capabilities is docker's default list with what the user adds and drops. All
// means all of have.
func capabilities(add, drop []string, privileged bool, have []string) ([]string, error) {
	add, err := capabilityNames("CapAdd", add, have)
	if err != nil {
		return nil, err
	}
	drop, err = capabilityNames("CapDrop", drop, nil)
	if err != nil {
		return nil, err
	}
	base := defaultCapabilities
	switch {
	case privileged:
		return have, nil
	case slices.Contains(add, allCapabilities):
		base, add = have, nil
	case slices.Contains(drop, allCapabilities):
		base, drop = nil, nil
	}
	var out []string
	for _, c := range base {
		// A machine may keep back even one of the defaults.
		if !slices.Contains(drop, c) && slices.Contains(have, c) {
			out = append(out, c)
		}
	}
	for _, c := range add {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// capabilityNames gives names their full form. With have, they must be in it.
func capabilityNames(field string, names, have []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, given := range names {
		name := strings.ToUpper(strings.TrimSpace(given))
		if name == allCapabilities {
			out = append(out, name)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !knownCapability(name) {
			return nil, moss.Errorf(moss.Invalid, "invalid %s: unknown capability: %q", field, given)
		}
		if have != nil && !slices.Contains(have, name) {
			return nil, moss.Errorf(moss.Invalid,
				"invalid %s: capability not supported by your kernel or not available in the current environment: %q", field, name)
		}
		out = append(out, name)
	}
	return out, nil
}

func knownCapability(name string) bool {
	return slices.ContainsFunc(capability.ListKnown(), func(c capability.Cap) bool {
		return "CAP_"+strings.ToUpper(c.String()) == name
	})
}
