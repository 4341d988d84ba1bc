package filter

import (
	"errors"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
)

// Start calls start, which starts lp in container, with lp's seccomp program
// from the cache. All else that lp is given must be attached.
func (c Cache) Start(container *libcontainer.Container, lp *libcontainer.Process, start func(*libcontainer.Process) error) error {
	var e *Entry
	if profile := container.Config().Seccomp; profile != nil {
		var err error
		if e, err = c.Entry(profile); err != nil {
			// It is init's to fail, in libcontainer's words.
			logrus.Debugf("seccomp: no program beforehand: %v", err)
		}
	}
	f, err := Give(lp, e)
	if err != nil {
		return err
	}
	return errors.Join(start(lp), f.Close())
}
