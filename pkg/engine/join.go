package engine

import (
	"context"

	"github.com/moss-containers/moss/pkg/moss"
)

// A container may live in namespaces of others: --network, --ipc and --pid
// container:NAME. It needs them to run when it starts, and only then.

// resolveJoins turns the names of containers in namespace modes into ids, and
// takes over what comes with the network.
func (s Containers) resolveJoins(rec *moss.Container) error {
	for _, mode := range []*string{&rec.Host.IpcMode, &rec.Host.PidMode, (*string)(&rec.Host.NetworkMode)} {
		ref, ok := moss.Joins(*mode)
		if !ok {
			continue
		}
		other, err := s.find(ref)
		if err != nil {
			// Not of class NotFound: docker's client would take the image to be missing.
			return moss.Errorf(moss.Invalid, "%w", err)
		}
		*mode = moss.JoinMode(other.id)
	}
	if ref, ok := rec.Host.NetworkMode.Joins(); ok {
		other, err := s.find(ref)
		if err != nil {
			return err
		}
		config := other.record().Config
		rec.Config.Hostname, rec.Config.Domainname = config.Hostname, config.Domainname
	}
	return nil
}

// needs are the containers that another one joins.
func needs(rec *moss.Container) []moss.ContainerID {
	var out []moss.ContainerID
	for _, mode := range []string{rec.Host.IpcMode, rec.Host.PidMode, string(rec.Host.NetworkMode)} {
		if ref, ok := moss.Joins(mode); ok {
			out = append(out, moss.ContainerID(ref))
		}
	}
	return out
}

func joinsNetwork(a moss.Attachment) bool {
	_, ok := a.Mode.Joins()
	return ok
}

// attach gives a container its network, or another's.
func (e *Engine) attach(ctx context.Context, rec *moss.Container) (moss.Attachment, error) {
	ref, ok := rec.Host.NetworkMode.Joins()
	if !ok {
		return e.Networks.Attach(ctx, rec)
	}
	other, err := e.find(ref)
	if err != nil {
		return moss.Attachment{}, moss.Errorf(moss.Conflict, "%w", err)
	}
	donor := other.record()
	switch {
	case donor.State == moss.StateRestarting:
		return moss.Attachment{}, moss.Errorf(moss.Conflict, "cannot join network namespace of container: Container %s is restarting, wait until the container is running", donor.ID)
	case !donor.State.Alive() || donor.Network == nil:
		return moss.Attachment{}, moss.Errorf(moss.Conflict, "cannot join network namespace of a non running container: %s", donor.Name)
	}
	return moss.Attachment{
		Mode: rec.Host.NetworkMode, NetNS: donor.Network.NetNS, Sandbox: donor.Network.Sandbox, HostIP: donor.Network.HostIP,
	}, nil
}

// detach is the opposite of attach.
func (e *Engine) detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	if joinsNetwork(a) {
		return nil // it is the other's
	}
	return e.Networks.Detach(ctx, id, a)
}

// join finds the other namespaces that a container shares.
func (e *Engine) join(b *moss.Bundle) error {
	host := &b.Container.Host
	donor, err := e.donor(host.IpcMode, func(h moss.HostConfig) string { return h.IpcMode })
	if err != nil {
		return moss.Wrap(err, "join IPC namespace of another container", "")
	}
	if donor != nil {
		switch donor.Host.IpcMode {
		case "host":
			host.IpcMode = "host"
		case "shareable":
			b.IPC = moss.Join{ID: donor.ID, PID: donor.Run.PID}
		default:
			return moss.Errorf(moss.Invalid, "failed to join IPC namespace: container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", donor.ID)
		}
	}
	if donor, err = e.donor(host.PidMode, func(h moss.HostConfig) string { return h.PidMode }); err != nil {
		return moss.Wrap(err, "join PID namespace of another container", "")
	}
	if donor != nil {
		if donor.Host.PidMode == "host" {
			host.PidMode = "host"
		} else {
			b.Processes = moss.Join{ID: donor.ID, PID: donor.Run.PID}
		}
	}
	if ref, ok := host.NetworkMode.Joins(); ok {
		other, err := e.find(ref)
		if err != nil {
			return err
		}
		files := bundle(other.record(), b.Rootfs, nil, b.Attachment)
		b.Hosts, b.Hostname, b.Resolv = files.Hosts, files.Hostname, files.Resolv
	}
	return nil
}

// donor is the container whose namespace a mode leads to in the end, which must
// run; nil where the mode names none.
func (e *Engine) donor(mode string, of func(moss.HostConfig) string) (*moss.Container, error) {
	var donor *moss.Container
	for {
		ref, ok := moss.Joins(mode)
		if !ok {
			return donor, nil
		}
		other, err := e.find(ref)
		if err != nil {
			return nil, err
		}
		donor = other.record()
		switch {
		case donor.State == moss.StateRestarting:
			return nil, moss.Errorf(moss.Conflict, "Container %s is restarting, wait until the container is running", donor.ID)
		case !donor.State.Alive():
			return nil, moss.Errorf(moss.Conflict, "container %s is not running", donor.ID)
		}
		mode = of(donor.Host) // made before, so there is no circle
	}
}
