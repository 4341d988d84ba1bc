// Package selinux gives containers SELinux labels: one for the process and one
// for its files, with categories that no other container has, by the policy's own
// file of containers' contexts (lxc_contexts). It is the one door to the library of
// the container runtimes, which keeps the categories in use in memory.
package selinux

import (
	"fmt"
	"slices"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"

	"github.com/moss-containers/moss/pkg/moss"
)

// Enabled says whether the kernel has SELinux, with a policy loaded.
func Enabled() bool { return selinux.GetEnabled() }

// Labels makes labels. Its methods may be called from several goroutines.
type Labels struct{}

// Make gives labels of its own to a container, changed by the options of
// --security-opt label=. With "disable" there is one for the files alone.
func (Labels) Make(options []string) (moss.SELinux, error) {
	options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == moss.LabelNested })
	process, mount, err := label.InitLabels(options)
	if err != nil {
		return moss.SELinux{}, moss.Errorf(moss.Invalid, "cannot make SELinux labels: %w", err)
	}
	for _, l := range []string{process, mount} {
		if l == "" {
			continue
		}
		if err := selinux.SecurityCheckContext(l); err != nil {
			selinux.ReleaseLabel(process)
			return moss.SELinux{}, moss.Errorf(moss.Invalid, "the SELinux policy does not know the label %s: %w", l, err)
		}
	}
	return moss.SELinux{Process: process, Mount: mount}, nil
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
