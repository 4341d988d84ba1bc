package units

import (
	"context"
	"errors"
	"regexp"
	"strings"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/entry"
	"github.com/moss-containers/moss/pkg/moss"
)

// entrySuffix is between a container's short id and the kind of the two units
// that hold its ports, see docs/adr/0013: the socket unit listens, and starts
// the service of the same name at the first connection.
const entrySuffix = "-entry"

func (m *Manager) entryName(id moss.ContainerID) string {
	return m.o.Prefix + "-" + id.Short() + entrySuffix
}

// Hold implements the engine's port Activator.
func (m *Manager) Hold(ctx context.Context, h moss.HeldPorts) error {
	if len(m.o.Entry.Args) == 0 {
		return moss.Errorf(moss.NotImplemented, "no program is set that passes connections on")
	}
	return m.do(ctx, func(l *link) error { return m.hold(ctx, l, h) })
}

func (m *Manager) hold(ctx context.Context, l *link, h moss.HeldPorts) error {
	name := m.entryName(h.ID)
	switch state, err := activeState(ctx, l, name+".socket"); {
	case err != nil:
		return err
	case state == "active", state == "activating":
		return nil
	case state == "failed": // it was started too often, say
		if err := m.release(ctx, l, h.ID); err != nil {
			return err
		}
	}
	addrs := entry.Addresses(h.Ports, entry.HasIPv6())
	for _, a := range addrs { // systemd would not say why it cannot
		l, err := entry.Listen(ctx, a)
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return err
		}
	}
	socket, service := entryProperties(h, addrs, m.o)
	w := m.expect(name + ".socket")
	defer w.drop()
	var job dbus.ObjectPath
	err := l.call(ctx, "StartTransientUnit", []any{name + ".socket", "fail", socket, []auxUnit{{name + ".service", service}}}, &job)
	if isDBus(err, "org.freedesktop.systemd1.UnitExists") {
		return nil
	}
	if err != nil {
		return err
	}
	result, err := w.wait(ctx, l, job)
	if err == nil && result != "done" && result != "" {
		err = moss.Errorf(moss.Conflict, "the job of %s.socket says %q: another program may have taken a port just now", name, result)
	}
	if err != nil {
		err = errors.Join(err, m.release(context.WithoutCancel(ctx), l, h.ID))
	}
	return err
}

// Release implements the engine's port Activator.
func (m *Manager) Release(ctx context.Context, id moss.ContainerID) error {
	return moss.Wrap(m.do(ctx, func(l *link) error { return m.release(ctx, l, id) }), "remove unit", m.entryName(id)+".socket")
}

func (m *Manager) release(ctx context.Context, l *link, id moss.ContainerID) error {
	var errs []error
	for _, kind := range []string{".socket", ".service"} { // or it would be started again
		errs = append(errs, m.stopUnit(ctx, l, m.entryName(id)+kind))
	}
	for _, kind := range []string{".socket", ".service"} {
		if err := l.call(ctx, "ResetFailedUnit", []any{m.entryName(id) + kind}); err != nil && !noProcess(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Held implements the engine's port Activator.
func (m *Manager) Held(ctx context.Context) ([]string, error) {
	rule := regexp.MustCompile(`^` + regexp.QuoteMeta(m.o.Prefix) + `-([0-9a-f]{12})` + entrySuffix + `\.(socket|service)$`)
	var list []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		Job                                             uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	err := m.do(ctx, func(l *link) error {
		list = nil
		return l.call(ctx, "ListUnitsByPatterns", []any{[]string{}, []string{m.o.Prefix + "-*" + entrySuffix + ".*"}}, &list)
	})
	seen := map[string]bool{}
	var out []string
	for _, u := range list {
		if sub := rule.FindStringSubmatch(u.Name); sub != nil && u.Load != "not-found" && !seen[sub[1]] {
			seen[sub[1]] = true
			out = append(out, sub[1])
		}
	}
	return out, moss.Wrap(err, "list the units that hold ports", "")
}

// activeState is a unit's, inactive where there is none.
func activeState(ctx context.Context, l *link, name string) (string, error) {
	var v dbus.Variant
	if err := l.callAt(ctx, unitPath(name), propsIface+".Get", []any{unitIface, "ActiveState"}, &v); err != nil {
		return "", err
	}
	state, _ := v.Value().(string)
	return state, nil
}

// entryProperties are those of the socket unit and of its service.
func entryProperties(h moss.HeldPorts, addrs []entry.Address, o Options) (socket, service []sd.Property) {
	type listen struct{ Kind, Address string }
	var listens []listen
	args := entry.Args(o.Entry.Args, h, addrs)
	for _, a := range addrs {
		listens = append(listens, listen{"Stream", a.At.String()})
	}
	if h.Listen { // the last: who connects there gets the others
		listens = append(listens, listen{"Stream", moss.EntrySocket(o.EntrySockets, h.ID)})
	}
	slice := strings.ReplaceAll(o.Prefix, "-", "_") + ".slice"
	holder := o.Prefix + "-rootless.service"
	socket = []sd.Property{
		prop("Description", "Ports of container "+h.Name),
		prop("Listen", listens),
		prop("BindIPv6Only", "ipv6-only"),
		prop("Slice", slice),
		prop("CollectMode", "inactive-or-failed"),
		prop("SocketMode", uint32(0o600)),
		prop("DirectoryMode", uint32(0o700)),
		prop("RemoveOnStop", true),
	}
	service = []sd.Property{
		prop("Description", "Connections to container "+h.Name),
		prop("ExecStart", []execStart{{args[0], args, false}}),
		prop("Environment", notNil(o.Entry.Env)),
		prop("Slice", slice),
		prop("DefaultDependencies", false),
		prop("BindsTo", []string{holder}),
		prop("After", []string{holder}),
		prop("IgnoreSIGPIPE", false),
		// It ends when nobody is connected, and is started again however soon.
		prop("StartLimitIntervalUSec", uint64(0)),
	}
	return socket, service
}
