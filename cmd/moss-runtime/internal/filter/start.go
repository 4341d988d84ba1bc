package filter

import (
	"encoding/json"
	"errors"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
)

// Profile is the seccomp profile of a container that is to be created.
type Profile struct {
	Config *configs.Seccomp // for the container's configuration; nil for none

	cache Cache
	text  []byte
	entry *Entry // nil where Config is the profile in full
}

// Profile reads text, linux.seccomp of an OCI runtime specification; empty for
// no profile. What it has met before it need not read: the program and what
// stands in for the profile are kept.
func (c Cache) Profile(text []byte) (*Profile, error) {
	if len(text) == 0 {
		return &Profile{}, nil
	}
	stand, e, err := c.recall(text)
	if err == nil {
		return &Profile{Config: stand, cache: c, entry: e}, nil
	}
	logrus.Debugf("seccomp: nothing is kept of the profile: %v", err)
	var spec specs.LinuxSeccomp
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	config, err := specconv.SetupSeccomp(&spec)
	if err != nil {
		return nil, err
	}
	return &Profile{Config: config, cache: c, text: text}, nil
}

// Start starts lp, the first process of container, whose configuration has
// p.Config, with the profile's program. All else that lp is given must be
// attached. dir is the container's state directory: there, the program is left
// to later processes, and p.Config becomes what stands in for the profile.
func (p *Profile) Start(container *libcontainer.Container, lp *libcontainer.Process, dir string) error {
	e, err := p.program(dir)
	if err != nil {
		return err
	}
	return with(e, lp, container.Start)
}

// program is the profile's program, which is nil where there is no profile.
func (p *Profile) program(dir string) (*Entry, error) {
	if p.Config == nil {
		return nil, nil
	}
	if p.entry != nil {
		return p.entry, p.cache.leave(p.entry, dir)
	}
	if _, ok := standsFor(p.Config); ok {
		return nil, errors.New("the seccomp profile stands in for another, of which nothing is known")
	}
	e := p.cache.beforehand(p.Config)
	if e == nil {
		return nil, nil
	}
	stand, err := standIn(p.Config, e)
	if err == nil {
		err = p.cache.leave(e, dir)
	}
	if err != nil {
		logrus.Debugf("seccomp: the profile is handed on in full: %v", err)
		return e, nil
	}
	if err := p.cache.remember(p.text, stand); err != nil {
		logrus.Debugf("seccomp: what stands in for the profile is not kept: %v", err)
	}
	*p.Config = *stand
	return e, nil
}

// Run runs lp, a further process of container, whose state directory is dir, as
// Profile.Start starts the first.
func (c Cache) Run(container *libcontainer.Container, lp *libcontainer.Process, dir string) error {
	e, err := c.later(container.Config().Seccomp, dir)
	if err != nil {
		return err
	}
	return with(e, lp, container.Run)
}

// later is the program for further processes of a container.
func (c Cache) later(profile *configs.Seccomp, dir string) (*Entry, error) {
	if profile == nil {
		return nil, nil
	}
	if key, ok := standsFor(profile); ok {
		return kept(dir, key)
	}
	return c.beforehand(profile), nil
}

// beforehand is the entry of profile; nil where there can be none: then it is
// init's to fail, in libcontainer's words.
func (c Cache) beforehand(profile *configs.Seccomp) *Entry {
	e, err := c.Entry(profile)
	if err != nil {
		logrus.Debugf("seccomp: no program beforehand: %v", err)
		return nil
	}
	return e
}

func with(e *Entry, lp *libcontainer.Process, start func(*libcontainer.Process) error) error {
	f, err := Give(lp, e)
	if err != nil {
		return err
	}
	return errors.Join(start(lp), f.Close())
}
