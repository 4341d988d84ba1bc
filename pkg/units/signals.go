package units

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

// handler takes the signals of one connection. godbus calls it from the
// goroutine that reads, so signals and replies stay in the manager's order.
type handler struct{ m *Manager }

// DeliverSignal implements dbus.SignalHandler.
func (h *handler) DeliverSignal(iface, member string, s *dbus.Signal) {
	switch {
	case iface == propsIface && member == "PropertiesChanged":
		h.m.onProperties(s)
	case iface != managerIface:
	case member == "JobRemoved":
		h.m.onJobRemoved(s)
	case member == "UnitRemoved":
		h.m.onUnitRemoved(s)
	case member == "Reloading":
		h.m.onReloading(s)
	}
}

func (m *Manager) onProperties(s *dbus.Signal) {
	if !strings.HasPrefix(string(s.Path), m.paths) || len(s.Body) < 2 {
		return
	}
	short, ok := m.short(unescape(string(s.Path[len(unitPathBase):])))
	if !ok {
		return
	}
	iface, _ := s.Body[0].(string)
	props, _ := s.Body[1].(map[string]dbus.Variant)
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.units[short]
	if u == nil {
		u = &unit{}
		m.units[short] = u
	}
	u.seq++
	u.apply(props)
	// The properties of the service come first, those of the unit, with the phase, second.
	if iface == unitIface {
		m.tellLocked(short, u)
	}
}

func (m *Manager) onUnitRemoved(s *dbus.Signal) {
	var name string
	var path dbus.ObjectPath
	if dbus.Store(s.Body, &name, &path) != nil {
		return
	}
	short, ok := m.short(name)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.reloads {
		m.goneLocked(short)
	}
}

// onReloading brings everything up to date after the manager has read its unit files anew.
func (m *Manager) onReloading(s *dbus.Signal) {
	var active bool
	if dbus.Store(s.Body, &active) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reloads = active
	l := m.link
	if active || l == nil || m.ctx.Err() != nil {
		return
	}
	m.wg.Go(func() {
		if err := m.sync(m.ctx, l); err != nil && m.ctx.Err() == nil {
			m.log.Warn("cannot list the units after a reload of the manager", "error", err)
		}
	})
}

// statusLocked is what the engine is told of a unit.
func (m *Manager) statusLocked(short string, u *unit) moss.UnitStatus {
	st := u.status(short)
	switch {
	case st.Exited:
		m.readOOMsLocked()
		st.OOMKills = max(st.OOMKills, m.ooms.ended(short, st.PID, st.ExitCode == 128+int(syscall.SIGKILL)))
	case st.Phase == moss.UnitRunning:
		m.ooms.follow(short, m.o.Prefix+"-"+short+".service", st.PID)
		fallthrough
	default:
		st.OOMKills = m.ooms.kills(short, st.PID)
	}
	return st
}

// readOOMsLocked tells of the units in which the kernel has killed a process since.
func (m *Manager) readOOMsLocked() {
	for _, short := range m.ooms.read() {
		if u := m.units[short]; u != nil {
			m.tellLocked(short, u)
		}
	}
}

// tellLocked tells the watchers what is new of a unit.
func (m *Manager) tellLocked(short string, u *unit) {
	st := m.statusLocked(short, u)
	if u.told != nil && *u.told == st {
		return
	}
	u.told = &st
	for w := range m.watchers {
		w.put(st)
	}
	m.broadcastLocked()
}

// goneLocked forgets a unit that is not loaded any more.
func (m *Manager) goneLocked(short string) {
	u := m.units[short]
	if u == nil {
		return
	}
	delete(m.units, short)
	u.Active, u.Sub, u.Job = "inactive", "dead", 0
	m.tellLocked(short, u)
	m.ooms.forget(short)
	m.broadcastLocked()
}

// sync reads the properties of every container unit.
func (m *Manager) sync(ctx context.Context, l *link) error {
	m.mu.Lock()
	known := make(map[string]uint64, len(m.units))
	for short, u := range m.units {
		known[short] = u.seq
	}
	m.mu.Unlock()
	var list []listedUnit
	if err := l.call(ctx, "ListUnitsByPatterns", []any{[]string{}, []string{m.o.Prefix + "-*.service"}}, &list); err != nil {
		return err
	}
	there := map[string]bool{}
	var errs []error
	wait := make([]func() error, 0, len(list))
	for _, u := range list {
		short, ok := m.short(u.Name)
		if !ok {
			continue
		}
		there[short] = true
		wait = append(wait, m.fetch(ctx, l, short, u.Name))
	}
	for _, w := range wait {
		errs = append(errs, w())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for short, seq := range known {
		if u := m.units[short]; u != nil && !there[short] && u.seq == seq {
			m.goneLocked(short)
		}
	}
	return errors.Join(errs...)
}

// listedUnit is an entry of ListUnits.
type listedUnit struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// fetch asks for the properties of a unit; the function it returns waits for
// them. They are left aside when the manager has told newer ones meanwhile.
func (m *Manager) fetch(ctx context.Context, l *link, short, name string) func() error {
	m.mu.Lock()
	var seq uint64
	if u := m.units[short]; u != nil {
		seq = u.seq
	}
	m.mu.Unlock()
	call := l.conn.Object(busName, unitPath(name)).GoWithContext(ctx, propsIface+".GetAll", 0, make(chan *dbus.Call, 1), "")
	return func() error {
		<-call.Done
		var props map[string]dbus.Variant
		if err := call.Store(&props); err != nil {
			return moss.Wrap(err, "read the properties of unit", name)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		var now uint64
		u := m.units[short]
		if u != nil {
			now = u.seq
		}
		if now != seq {
			return nil
		}
		if u == nil {
			u = &unit{}
		}
		u.apply(props)
		if u.Load == "not-found" || u.phase() == moss.UnitGone {
			m.goneLocked(short)
			return nil
		}
		m.units[short] = u
		m.tellLocked(short, u)
		return nil
	}
}

// unescape undoes sd.PathBusEscape.
func unescape(s string) string {
	if !strings.Contains(s, "_") {
		return s
	}
	if s == "_" { // of an empty name
		return ""
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '_' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
