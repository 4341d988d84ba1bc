package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/moss-containers/moss/pkg/moss"
)

// checkActivation refuses what cannot be started by a connection.
func checkActivation(rec *moss.Container) error {
	a, err := rec.Host.Activation()
	if err != nil || a == nil {
		return err
	}
	why := ""
	switch h := rec.Host; {
	case !bridged(h.NetworkMode):
		why = "it needs an address of its own; use a network of the driver bridge"
	case h.PublishAll:
		why = "its ports are held before it runs; name them with -p"
	case len(h.PortBindings) == 0:
		why = "it has no port to connect to; publish one with -p"
	case h.AutoRemove:
		why = "it would be gone after its first run; leave --rm out"
	}
	for _, b := range rec.Host.PortBindings {
		switch {
		case b.Port.Proto != moss.TCP:
			why = "only connections of TCP can start it; publish no port of " + string(b.Port.Proto)
		case b.HostPort == 0 || b.Choices() != 1:
			why = "its ports are held before it runs; name one port of the host for each"
		}
	}
	if why != "" {
		return moss.Errorf(moss.Invalid, "cannot start a container by its first connection: %s", why)
	}
	return nil
}

// addressHeld has the ports of an activated container that name no address held
// where those of others are published.
func (e *Engine) addressHeld(rec *moss.Container) {
	if !rec.Host.Activated() || !e.opts.PublishIP.IsValid() {
		return
	}
	rec.Host.PortBindings = slices.Clone(rec.Host.PortBindings)
	for i := range rec.Host.PortBindings {
		if b := &rec.Host.PortBindings[i]; !b.HostIP.IsValid() {
			b.HostIP = e.opts.PublishIP
		}
	}
}

// hold has the ports listened at of a container that its first connection starts.
func (e *Engine) hold(ctx context.Context, rec *moss.Container) error {
	a, err := rec.Host.Activation()
	if err != nil || a == nil {
		return err
	}
	held := moss.HeldPorts{ID: rec.ID, Name: rec.Name, Ports: rec.Host.PortBindings, Idle: a.Idle, Listen: a.Listen}
	return moss.Wrap(e.Activator.Hold(ctx, held), "hold the ports of", rec.Name)
}

// letPortsGo undoes hold.
func (e *Engine) letPortsGo(ctx context.Context, rec *moss.Container) error {
	if !rec.Host.Activated() {
		return nil
	}
	return e.Activator.Release(ctx, rec.ID)
}

// restoreHeld makes the held ports those of the records: after a boot all are
// gone, and some may be those of a container that was being made or removed.
func (e *Engine) restoreHeld(ctx context.Context, records []*moss.Container, bad map[string]error) {
	var errs []error
	keep := map[string]bool{}
	for _, rec := range records {
		keep[rec.ID.Short()] = rec.Host.Activated()
		if rec.State != moss.StateRemoving && rec.Intent != moss.IntentRemove {
			errs = append(errs, e.hold(ctx, rec))
		}
	}
	for key := range bad {
		keep[moss.ContainerID(key).Short()] = true
	}
	held, err := e.Activator.Held(ctx)
	errs = append(errs, err)
	for _, short := range held {
		if !keep[short] {
			errs = append(errs, e.Activator.Release(ctx, moss.ContainerID(short)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		e.Log.Error("not all ports could be held whose containers their first connection starts", "error", err)
	}
}
