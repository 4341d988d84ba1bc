package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Offer is what containers can choose, and what they have that do not.
type Offer struct {
	Runtimes map[string]string // name → path
	Runtime  string            // the default one's name
	Defaults Defaults
}

// Defaults are what containers have that do not say otherwise; what is zero is
// as with docker without settings.
type Defaults struct {
	ShmSize         int64
	IpcMode         string
	CgroupNS        string
	CgroupParent    string
	Ulimits         []moss.Ulimit
	NoNewPrivileges bool
	Seccomp         string // as HostConfig has it
	SeccompName     string // what info calls it; "" is builtin
}

// SetOffer changes what is offered to containers that are made from now on.
func (e *Engine) SetOffer(o Offer) { e.offered.Store(&o) }

func (e *Engine) offer() Offer {
	if o := e.offered.Load(); o != nil {
		return *o
	}
	return Offer{Runtimes: e.opts.Runtimes, Runtime: e.opts.Runtime, Defaults: e.opts.Defaults}
}

// apply gives a container what it does not say.
func (d Defaults) apply(h *moss.HostConfig) {
	if h.ShmSize == 0 {
		h.ShmSize = d.ShmSize
	}
	if h.IpcMode == "" {
		h.IpcMode = cmp.Or(d.IpcMode, "private")
	}
	if h.CgroupNS == "" {
		h.CgroupNS = cmp.Or(d.CgroupNS, "private")
	}
	if h.CgroupParent == "" {
		h.CgroupParent = d.CgroupParent
	}
	limits := slices.Clone(h.Ulimits)
	for _, u := range d.Ulimits {
		if !slices.ContainsFunc(h.Ulimits, func(own moss.Ulimit) bool { return own.Name == u.Name }) {
			limits = append(limits, u)
		}
	}
	h.Ulimits = limits
	if d.NoNewPrivileges && !says(h.SecurityOpt, "no-new-privileges") {
		h.NoNewPrivileges = true
	}
	if h.Seccomp == "" && !h.Privileged && !says(h.SecurityOpt, "seccomp") {
		h.Seccomp = d.Seccomp
	}
}

// says tells whether an option is among those of a container, on or off.
func says(options []string, key string) bool {
	return slices.ContainsFunc(options, func(o string) bool {
		rest, ok := strings.CutPrefix(o, key)
		return ok && (rest == "" || rest[0] == '=' || rest[0] == ':')
	})
}
