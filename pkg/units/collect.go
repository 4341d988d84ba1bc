package units

import (
	"context"
	"syscall"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

// Kill implements the engine's port.
func (m *Manager) Kill(ctx context.Context, id moss.ContainerID, sig syscall.Signal) error {
	name := m.UnitName(id)
	l, err := m.up(ctx)
	if err == nil {
		err = l.call(ctx, "KillUnit", []any{name, "main", int32(sig)})
	}
	if noProcess(err) {
		err = moss.Errorf(moss.Conflict, "it has no main process")
	}
	return moss.Wrap(err, "signal unit", name)
}

// noProcess says whether a signal failed because nobody is there to get it.
func noProcess(err error) bool {
	return isDBus(err, "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.NoSuchProcess", "System.Error.ESRCH")
}

// Collect implements the engine's port.
func (m *Manager) Collect(ctx context.Context, id moss.ContainerID) error {
	name := m.UnitName(id)
	return moss.Wrap(m.do(ctx, func(l *link) error { return m.collect(ctx, l, id.Short(), name) }), "collect unit", name)
}

func (m *Manager) collect(ctx context.Context, l *link, short, name string) error {
	m.mu.Lock()
	u := m.units[short]
	failed := u != nil && u.Active == "failed" && u.Job == 0
	ended := u != nil && u.phase() == moss.UnitEnded
	m.mu.Unlock()
	if !failed {
		if !ended { // do not wait for its stop timeout
			if err := l.call(ctx, "KillUnit", []any{name, "all", int32(syscall.SIGKILL)}); err != nil && !noProcess(err) {
				return err
			}
		}
		if err := m.stopUnit(ctx, l, name); err != nil {
			return err
		}
	}
	err := l.call(ctx, "ResetFailedUnit", []any{name})
	if err != nil && !noProcess(err) {
		return err
	}
	return nil
}

// stopUnit stops a unit and waits; nil when it is not loaded.
func (m *Manager) stopUnit(ctx context.Context, l *link, name string) error {
	w := m.expect(name)
	defer w.drop()
	for {
		var job dbus.ObjectPath
		err := l.call(ctx, "StopUnit", []any{name, "replace"}, &job)
		if isDBus(err, "org.freedesktop.systemd1.NoSuchUnit") {
			return nil
		}
		if err != nil {
			return err
		}
		switch result, err := w.wait(ctx, l, job); {
		case err != nil:
			return err
		case result == "done":
			return nil
		case result != "":
			return moss.Errorf(moss.Internal, "its stop job says %q", result)
		}
		if l, err = m.up(ctx); err != nil { // lost: ask again
			return err
		}
	}
}
