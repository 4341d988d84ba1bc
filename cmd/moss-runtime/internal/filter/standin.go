package filter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// libcontainer keeps a container's configuration in its state, reads it for
// each exec and hands it to each init, all as JSON; docker's profile is most of
// it, and init looks each call of it up by name, for each architecture. None of
// that is needed where the program is there.
//
// So the profile gives way to one that stands in for it: it has the key of the
// program (libseccomp.StandInName) and what else libcontainer looks at, which is
// all but the rules, and of these, for the ENOSYS stub that it puts before the
// program, the last system call of each architecture. Without the program, or
// with another one, there is nothing that could be loaded: the start fails.

// programFile is the program's name in the container's state directory.
const programFile = "seccomp"

// standIn returns the profile that stands in for profile, whose program is e.
func standIn(profile *configs.Seccomp, e *Entry) (*configs.Seccomp, error) {
	notifies := func(c *configs.Syscall) bool { return c.Action == configs.Notify }
	if profile.ListenerPath != "" || slices.ContainsFunc(profile.Syscalls, notifies) {
		return nil, errors.New("it has a listener")
	}
	last, err := lastCalls(profile)
	if err != nil {
		return nil, err
	}
	// A rule with the default action would be left out.
	mark := &configs.Syscall{Name: libseccomp.StandInName(e.Key), Action: configs.Allow}
	if profile.DefaultAction == configs.Allow {
		mark.Action = configs.Errno
	}
	p := *profile
	p.Syscalls = append([]*configs.Syscall{mark}, last...)
	return &p, nil
}

// lastCalls are the rules with the highest numbers, on each architecture, as
// libcontainer looks for them.
func lastCalls(profile *configs.Seccomp) ([]*configs.Syscall, error) {
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		return nil, err
	}
	archs := []libseccomp.ScmpArch{native}
	for _, name := range profile.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err != nil {
			return nil, err
		}
		archs = append(archs, arch)
	}
	slices.Sort(archs)
	var last []*configs.Syscall
	for _, arch := range slices.Compact(archs) {
		var highest libseccomp.ScmpSyscall
		var rule *configs.Syscall
		for _, call := range profile.Syscalls {
			if n, err := libseccomp.GetSyscallFromNameByArch(call.Name, arch); err == nil && n > highest {
				highest, rule = n, call
			}
		}
		if rule != nil && !slices.Contains(last, rule) {
			last = append(last, rule)
		}
	}
	return last, nil
}

// standsFor is the key of the program that a profile stands in for; false for a
// profile that does not.
func standsFor(profile *configs.Seccomp) (libseccomp.Key, bool) {
	for _, call := range profile.Syscalls {
		if key, ok := libseccomp.StandsFor(call.Name); ok {
			return key, true
		}
	}
	return libseccomp.Key{}, false
}

// leave puts e in dir, for kept. Where the cache has it, it is there once for
// all containers.
func (c Cache) leave(e *Entry, dir string) error {
	file := filepath.Join(dir, programFile)
	if name, err := c.file(e.Key); err == nil && os.Link(name, file) == nil {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // never into such a link
	if err != nil {
		return err
	}
	_, err = f.Write(e.encode())
	return errors.Join(err, f.Close())
}

// kept reads the program of that key which was left in dir.
func kept(dir string, key libseccomp.Key) (*Entry, error) {
	data, err := os.ReadFile(filepath.Join(dir, programFile))
	if err != nil {
		return nil, fmt.Errorf("the container's seccomp program is not there: %w", err)
	}
	e, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the container's seccomp program: %w", err)
	}
	if e.Key != key {
		return nil, errors.New("cannot use the container's seccomp program: it is another filter's")
	}
	return e, nil
}
