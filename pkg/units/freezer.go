package units

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	frozen  = "frozen"
	running = "running"
	// busyPause is how often a unit is asked again that something else is being done to.
	busyPause = 100 * time.Millisecond
	// answerGrace is how long an answer is waited for before the unit is looked at.
	answerGrace = 500 * time.Millisecond
)

// Freeze implements the engine's port. A unit that is collected or killed while
// it is frozen ends all the same.
func (m *Manager) Freeze(ctx context.Context, id moss.ContainerID) error {
	name := m.UnitName(id)
	return moss.Wrap(m.freezer(ctx, id.Short(), name, "FreezeUnit", frozen), "freeze unit", name)
}

// Thaw undoes Freeze; nil for a unit that is not frozen.
func (m *Manager) Thaw(ctx context.Context, id moss.ContainerID) error {
	name := m.UnitName(id)
	return moss.Wrap(m.freezer(ctx, id.Short(), name, "ThawUnit", running), "thaw unit", name)
}

// freezer calls the method and sees that the unit is then as wanted: where the
// machine has no freezer some managers say yes and do nothing.
func (m *Manager) freezer(ctx context.Context, short, name, method, want string) error {
	return m.do(ctx, func(l *link) error {
		state, runs, err := m.freezeOrThaw(ctx, l, short, name, method, want)
		switch {
		case err != nil || state == want:
			return err
		case !runs: // it ended meanwhile
			return errNotRunning
		}
		return errNoFreezer
	})
}

// freezeOrThaw returns when the unit is as wanted, or will not be. The manager
// answers when the kernel says that it is done; where the unit ends meanwhile
// systemd 252 never does, so it is looked at from time to time.
func (m *Manager) freezeOrThaw(ctx context.Context, l *link, short, name, method, want string) (state string, runs bool, err error) {
	for {
		asking, cancel := context.WithTimeout(ctx, answerGrace)
		err := l.call(asking, method, []any{name})
		cancel()
		switch {
		case err == nil:
			return m.freezerState(ctx, l, short, name)
		case ctx.Err() != nil:
			return "", false, err
		case isDBus(err, "org.freedesktop.systemd1.UnitBusy"):
			if err := m.pause(ctx); err != nil {
				return "", false, err
			}
		case !errors.Is(err, context.DeadlineExceeded):
			return "", false, freezerError(err)
		}
		if state, runs, err := m.freezerState(ctx, l, short, name); err != nil || !runs || state == want {
			return state, runs, err
		}
	}
}

var (
	errNoFreezer  = moss.Errorf(moss.NotImplemented, "this machine's cgroups cannot freeze: that takes cgroup v2 (boot with systemd.unified_cgroup_hierarchy=1)")
	errNotRunning = moss.Errorf(moss.Conflict, "it does not run")
)

func freezerError(err error) error {
	switch {
	case isDBus(err, "org.freedesktop.DBus.Error.NotSupported", "System.Error.EOPNOTSUPP"):
		return errNoFreezer
	case noProcess(err), isDBus(err, "org.freedesktop.systemd1.UnitInactive"):
		return errNotRunning
	}
	return err
}

// freezerState asks for it, and tells the watchers: the manager does not tell it unasked.
func (m *Manager) freezerState(ctx context.Context, l *link, short, name string) (state string, runs bool, err error) {
	var v dbus.Variant
	if err := l.callAt(ctx, unitPath(name), propsIface+".Get", []any{unitIface, "FreezerState"}, &v); err != nil {
		return "", false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.units[short]; u != nil {
		u.apply(map[string]dbus.Variant{"FreezerState": v})
		m.tellLocked(short, u)
		runs = u.phase() == moss.UnitRunning
	}
	state, _ = v.Value().(string)
	return state, runs, nil
}

// pause lets a change of any unit, or some time, go by.
func (m *Manager) pause(ctx context.Context) error {
	m.mu.Lock()
	changed := m.changed
	m.mu.Unlock()
	timer := time.NewTimer(busyPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-timer.C:
	}
	return nil
}
