package filter

import (
	"errors"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/sirupsen/logrus"
)

// Start calls start, which starts lp in container, with lp's seccomp program. All
// else that lp is given must be attached. dir is the container's state
// directory: there, its first process leaves the program to later ones, and the
// container's configuration has a profile that stands in for the real one.
func (c Cache) Start(container *libcontainer.Container, lp *libcontainer.Process, dir string, start func(*libcontainer.Process) error) error {
	e, err := c.program(container.Config().Seccomp, dir, lp.Init)
	if err != nil {
		return err
	}
	f, err := Give(lp, e)
	if err != nil {
		return err
	}
	return errors.Join(start(lp), f.Close())
}

// program is the program of profile, which may be nil; for the first process of
// a container it is kept, and a stand-in takes profile's place.
func (c Cache) program(profile *configs.Seccomp, dir string, first bool) (*Entry, error) {
	if profile == nil {
		return nil, nil
	}
	if key, ok := standsFor(profile); ok {
		return kept(dir, key)
	}
	e, err := c.Entry(profile)
	if err != nil {
		// It is init's to fail, in libcontainer's words.
		logrus.Debugf("seccomp: no program beforehand: %v", err)
		return nil, nil
	}
	if !first {
		return e, nil
	}
	if p, err := standIn(profile, e, dir); err == nil {
		*profile = *p
	} else {
		logrus.Debugf("seccomp: the profile is handed on in full: %v", err)
	}
	return e, nil
}
