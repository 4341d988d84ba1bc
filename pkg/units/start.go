package units

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

// cleanupTimeout bounds what is done after the caller's context has ended.
const cleanupTimeout = 15 * time.Second

// auxUnit is a further unit in StartTransientUnit; we never have one.
type auxUnit struct {
	Name       string
	Properties []sd.Property
}

// Start implements the engine's port.
func (m *Manager) Start(ctx context.Context, u moss.UnitSpec) (moss.UnitStatus, error) {
	name := m.UnitName(u.ID)
	st, err := m.start(ctx, name, u)
	if err == nil {
		return st, nil
	}
	return moss.UnitStatus{}, moss.Wrap(err, "start unit", name)
}

func (m *Manager) start(ctx context.Context, name string, u moss.UnitSpec) (moss.UnitStatus, error) {
	if err := CheckUlimits(u.Ulimits, OwnHardLimit); err != nil {
		return moss.UnitStatus{}, err
	}
	if err := m.CheckDevices(u.Devices); err != nil {
		return moss.UnitStatus{}, err
	}
	props, err := Properties(u, m.o)
	if err != nil {
		return moss.UnitStatus{}, err
	}
	defer runtime.KeepAlive(u.Stdio)
	l, err := m.up(ctx)
	if err != nil {
		return moss.UnitStatus{}, err
	}
	w := m.expect(name)
	defer w.drop()
	job, err := m.startTransient(ctx, l, name, u.ID, props)
	if err != nil {
		return moss.UnitStatus{}, err
	}
	result, err := w.wait(ctx, l, job)
	if err == nil && result == "" {
		result, err = m.settled(ctx, u.ID.Short(), name)
	}
	if err == nil {
		var st moss.UnitStatus
		if st, err = m.started(ctx, u.ID.Short(), name, result); err == nil {
			return st, nil
		}
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return moss.UnitStatus{}, errors.Join(err, m.Collect(clean, u.ID))
}

// startTransient makes the unit. Where an ended one of that name is left over, that is collected first.
func (m *Manager) startTransient(ctx context.Context, l *link, name string, id moss.ContainerID, props []sd.Property) (dbus.ObjectPath, error) {
	var job dbus.ObjectPath
	args := []any{name, "fail", props, []auxUnit{}}
	err := l.call(ctx, "StartTransientUnit", args, &job)
	if !isDBus(err, "org.freedesktop.systemd1.UnitExists") {
		return job, err
	}
	switch st, known := m.look(id.Short()); {
	case known && (st.Phase == moss.UnitRunning || st.Phase == moss.UnitStarting || st.Phase == moss.UnitStopping):
		return "", moss.Errorf(moss.Conflict, "the unit is there already, %s", st.Phase)
	default:
		if err := m.Collect(ctx, id); err != nil {
			return "", err
		}
	}
	return job, l.call(ctx, "StartTransientUnit", args, &job)
}

// settled is asked when the connection was lost while a start was under way: it
// waits until the unit is no longer starting.
func (m *Manager) settled(ctx context.Context, short, name string) (string, error) {
	l, err := m.up(ctx)
	if err != nil {
		return "", err
	}
	for {
		m.mu.Lock()
		changed, link := m.changed, m.link
		m.mu.Unlock()
		st, known := m.look(short)
		switch {
		case link != l: // lost again
			if l, err = m.up(ctx); err != nil {
				return "", err
			}
			continue
		case !known:
			return "", moss.Errorf(moss.Unavailable, "the manager does not know the unit any more")
		case st.Phase != moss.UnitStarting:
			return "done", nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// started checks how the start ended. The manager has told the unit's
// properties before the end of the job.
func (m *Manager) started(ctx context.Context, short, name, result string) (moss.UnitStatus, error) {
	st, known := m.look(short)
	switch {
	case known && result == "done" && (st.PID != 0 || st.Exited):
		return st, nil
	case known && result == "done":
		return st, moss.Errorf(moss.Internal, "the launcher has named no main process")
	case result == "done", // it has ended and was stopped by somebody, all at once
		result == "canceled":
		return st, moss.Errorf(moss.Conflict, "the unit was stopped while it started")
	}
	return st, fmt.Errorf("its job says %q and the unit %q%s", result, st.Result, m.launcherExit(ctx, name))
}

// launcherExit tells how the launcher ended, for the text of an error.
func (m *Manager) launcherExit(ctx context.Context, name string) string {
	l, err := m.up(ctx)
	if err != nil {
		return ""
	}
	var v dbus.Variant
	if err := l.callAt(ctx, unitPath(name), propsIface+".Get", []any{"org.freedesktop.systemd1.Service", "ExecStart"}, &v); err != nil {
		return ""
	}
	var cmds []struct {
		Path                             string
		Args                             []string
		Ignore                           bool
		Start, StartMono, Exit, ExitMono uint64
		PID                              uint32
		Code, Status                     int32
	}
	if err := v.Store(&cmds); err != nil || len(cmds) == 0 {
		return ""
	}
	switch c := cmds[0]; c.Code {
	case cldExited:
		return fmt.Sprintf("; %s exited with status %d", c.Path, c.Status)
	case cldKilled, cldDumped:
		return fmt.Sprintf("; %s was killed by signal %d", c.Path, c.Status)
	}
	return ""
}

// look returns what is known of a unit.
func (m *Manager) look(short string) (moss.UnitStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.units[short]
	if u == nil {
		return moss.UnitStatus{Short: short}, false
	}
	return m.statusLocked(short, u), true
}
