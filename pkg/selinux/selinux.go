// Package selinux gives containers SELinux labels: one for the process and one
// for its files, with categories that no other container has, by the policy's own
// file of containers' contexts (lxc_contexts). It is the one door to the library of
// the container runtimes, which keeps the categories in use in memory.
package selinux

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Enabled says whether the kernel has SELinux, with a policy loaded.
func Enabled() bool { return selinux.GetEnabled() }

// Labels makes labels. Its methods may be called from several goroutines.
type Labels struct{}

// Make gives labels of its own to a container, changed by the options of
// --security-opt label=. With "disable" there is one for the files alone, where the
// policy has one.
func (Labels) Make(options []string) (moss.SELinux, error) {
	process, mount, err := label.InitLabels(slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == moss.LabelNested }))
	if err != nil {
		return moss.SELinux{}, moss.Errorf(moss.Invalid, "cannot make SELinux labels: %w", err)
	}
	l, err := judged(options, moss.SELinux{Process: process, Mount: mount}, selinux.SecurityCheckContext)
	if err != nil && process != "" {
		selinux.ReleaseLabel(process)
	}
	return l, err
}

// Check says whether containers that ask for nothing can have labels by the policy that is loaded.
func (l Labels) Check() error {
	made, err := l.Make(nil)
	if err == nil && made.Process == "" {
		err = errNoLabels
	}
	l.Free(made)
	return err
}

var errNoLabels = moss.Errorf(moss.NotImplemented,
	"the SELinux policy has no labels for containers in its file contexts/lxc_contexts: install a policy that has, like container-selinux, or use label=disable")

// judged says whether the policy knows labels. Which there are is written in a file
// that may name types the policy does not have: Debian's default one is so.
func judged(options []string, l moss.SELinux, check func(string) error) (moss.SELinux, error) {
	unknown := func(label string) bool {
		return label != "" && errors.Is(check(label), unix.EINVAL) // with another error it is the kernel's to say so
	}
	switch {
	case slices.Contains(options, moss.LabelDisable):
		if unknown(l.Mount) { // nor is there a type that could not get at the files
			return moss.SELinux{}, nil
		}
		return l, nil
	case l.Process == "" && len(options) > 0:
		return moss.SELinux{}, errNoLabels
	}
	for _, one := range []struct{ label, way string }{{l.Process, "label=type:TYPE"}, {l.Mount, "label=filetype:TYPE"}} {
		if unknown(one.label) {
			return moss.SELinux{}, moss.Errorf(moss.Invalid,
				"the SELinux policy does not know the label %s: install a policy that does, like container-selinux, name a type it has with %s, or use label=disable", one.label, one.way)
		}
	}
	return l, nil
}

// Like are the options that give another container the categories of this label.
func (Labels) Like(process string) ([]string, error) {
	options, err := selinux.DupSecOpt(process)
	if err != nil {
		return nil, fmt.Errorf("cannot read the SELinux label %s: %w", process, err)
	}
	return options, nil
}

// Keep takes the categories of a container that an earlier daemon has made.
func (Labels) Keep(l moss.SELinux) {
	if l.Process != "" {
		selinux.ReserveLabel(l.Process)
	}
}

// Free gives the categories of a removed container back.
func (Labels) Free(l moss.SELinux) {
	if l.Process != "" {
		selinux.ReleaseLabel(l.Process)
	}
}

// Relabel gives the label of a container's files to a tree; shared lets all containers use it.
func (Labels) Relabel(path string, l moss.SELinux, shared bool) error {
	if err := label.Relabel(path, l.Mount, shared); err != nil {
		return fmt.Errorf("cannot give %s the SELinux label %s: %w", path, l.Mount, err)
	}
	return nil
}
