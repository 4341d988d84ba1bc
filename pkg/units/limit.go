package units

import (
	"context"
	"math"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/moss"
)

// Limit gives a running unit other limits, until its end. What no controller of
// this user can enforce the manager keeps without a word.
func (m *Manager) Limit(ctx context.Context, id moss.ContainerID, r moss.Resources) error {
	name := m.UnitName(id)
	props, err := resourceProperties(r)
	if err == nil {
		err = m.limit(ctx, id.Short(), name, append(unlimited(r), props...))
	}
	return moss.Wrap(err, "set the limits of unit", name)
}

func (m *Manager) limit(ctx context.Context, short, name string, props []sd.Property) error {
	m.mu.Lock()
	u := m.units[short]
	runs := u != nil && u.phase() == moss.UnitRunning
	m.mu.Unlock()
	if !runs {
		return errNotRunning
	}
	err := m.do(ctx, func(l *link) error { return l.call(ctx, "SetUnitProperties", []any{name, true, props}) })
	if noProcess(err) {
		return errNotRunning
	}
	return err
}

// unlimited takes back a quota that the unit may have had.
func unlimited(r moss.Resources) []sd.Property {
	if r.NanoCPUs > 0 || r.CPUQuota > 0 {
		return nil
	}
	return []sd.Property{prop("CPUQuotaPerSecUSec", uint64(math.MaxUint64))}
}
