package units

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/cgroup"
	"github.com/moss-containers/moss/pkg/moss"
)

// What moss setup and moss doctor need of the user manager: its unit files,
// units by their full names, and what it can do.

// Reload makes the manager read its unit files anew.
func (m *Manager) Reload(ctx context.Context) error {
	l, err := m.up(ctx)
	if err == nil {
		err = l.call(ctx, "Reload", nil)
	}
	return moss.Wrap(err, "reload the user's systemd", "")
}

// Enable links unit files as their [Install] sections say; runtime links go
// away with the machine's next start. It reports whether a link was made.
func (m *Manager) Enable(ctx context.Context, runtime bool, names ...string) (bool, error) {
	var install bool
	var changes []unitFileChange
	l, err := m.up(ctx)
	if err == nil {
		err = l.call(ctx, "EnableUnitFiles", []any{names, runtime, true}, &install, &changes)
	}
	return len(changes) > 0, moss.Wrap(err, "enable", strings.Join(names, " "))
}

// Disable removes what Enable made.
func (m *Manager) Disable(ctx context.Context, runtime bool, names ...string) (bool, error) {
	var changes []unitFileChange
	l, err := m.up(ctx)
	if err == nil {
		err = l.call(ctx, "DisableUnitFiles", []any{names, runtime}, &changes)
	}
	return len(changes) > 0, moss.Wrap(err, "disable", strings.Join(names, " "))
}

type unitFileChange struct{ Type, File, Destination string }

// StartUnit starts a unit and waits until it is up.
func (m *Manager) StartUnit(ctx context.Context, name string) error {
	return moss.Wrap(m.runJob(ctx, "StartUnit", name), "start unit", name)
}

// RestartUnit restarts a unit, or starts it, and waits until it is up.
func (m *Manager) RestartUnit(ctx context.Context, name string) error {
	return moss.Wrap(m.runJob(ctx, "RestartUnit", name), "restart unit", name)
}

func (m *Manager) runJob(ctx context.Context, method, name string) error {
	l, err := m.up(ctx)
	if err != nil {
		return err
	}
	w := m.expect(name)
	defer w.drop()
	var job dbus.ObjectPath
	if err := l.call(ctx, method, []any{name, "replace"}, &job); err != nil {
		return err
	}
	switch result, err := w.wait(ctx, l, job); {
	case err != nil:
		return err
	case result == "":
		return moss.Errorf(moss.Unavailable, "the connection to the user manager was lost meanwhile")
	case result != "done":
		return moss.Errorf(moss.Internal, "its job says %q; look at: journalctl --user -u %s", result, name)
	}
	return nil
}

// StopUnit stops a unit and waits until it is down; nil when it is not there.
func (m *Manager) StopUnit(ctx context.Context, name string) error {
	l, err := m.up(ctx)
	if err == nil {
		err = m.stopUnit(ctx, l, name)
	}
	return moss.Wrap(err, "stop unit", name)
}

// ResetUnit forgets that a unit has failed; nil when it is not there.
func (m *Manager) ResetUnit(ctx context.Context, name string) error {
	l, err := m.up(ctx)
	if err == nil {
		err = l.call(ctx, "ResetFailedUnit", []any{name})
	}
	if noProcess(err) {
		return nil
	}
	return moss.Wrap(err, "reset unit", name)
}

// UnitState is how a unit stands, in the manager's words.
type UnitState struct {
	Load   string // "loaded", "not-found", …
	Active string // "active", "inactive", "failed", …
	Sub    string
	File   string // "enabled", "disabled", "" without a file, …
	Stale  bool   // its file has changed since the manager read it
	Job    bool   // a job waits for it or is at it
}

// State returns how a unit stands.
func (m *Manager) State(ctx context.Context, name string) (UnitState, error) {
	var p map[string]dbus.Variant
	l, err := m.up(ctx)
	if err == nil {
		err = l.callAt(ctx, unitPath(name), propsIface+".GetAll", []any{unitIface}, &p)
	}
	if err != nil {
		return UnitState{}, moss.Wrap(err, "read the state of unit", name)
	}
	var s UnitState
	set(p, "LoadState", &s.Load)
	set(p, "ActiveState", &s.Active)
	set(p, "SubState", &s.Sub)
	set(p, "UnitFileState", &s.File)
	set(p, "NeedDaemonReload", &s.Stale)
	if job, ok := p["Job"].Value().([]any); ok && len(job) > 0 { // (uo), id 0 for none
		id, _ := job[0].(uint32)
		s.Job = id != 0
	}
	return s, nil
}

// Version returns the manager's version: its number and the text it is part of.
func (m *Manager) Version(ctx context.Context) (int, string, error) {
	var text string
	if err := m.property(ctx, "Version", &text); err != nil {
		return 0, "", err
	}
	digits := text
	if i := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = text[:i]
	}
	n, err := strconv.Atoi(digits)
	return n, text, moss.Wrap(err, "read the version of the user's systemd", text)
}

// Controllers returns the cgroup controllers the manager may use for units. A
// limit that needs another one is ignored by the manager without a word.
func (m *Manager) Controllers(ctx context.Context) ([]string, error) {
	var group string
	if err := m.property(ctx, "ControlGroup", &group); err != nil {
		return nil, err
	}
	return controllersAt("/sys/fs/cgroup", group)
}

// controllersAt reads a group's controllers.
func controllersAt(mount, group string) ([]string, error) {
	var errs []error
	for _, dir := range cgroup.Dirs(mount, group) {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err == nil {
			return strings.Fields(string(b)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, moss.Wrap(errors.Join(errs...), "find the user manager's cgroup", group)
}

func (m *Manager) property(ctx context.Context, name string, to any) error {
	var v dbus.Variant
	l, err := m.up(ctx)
	if err == nil {
		err = l.callAt(ctx, managerPath, propsIface+".Get", []any{managerIface, name}, &v)
	}
	if err == nil {
		err = v.Store(to)
	}
	return moss.Wrap(err, "read the property of the user's systemd", name)
}
