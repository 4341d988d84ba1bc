package engine

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/moss-containers/moss/pkg/moss"
)

// chooseLabels gives a new container its SELinux labels: where it asks for them, or
// where the engine is set to give every container some. As docker has it, one that
// shares the processes or the IPC of another has that one's categories, and one that
// is privileged or shares the host's is not confined.
func (e *Engine) chooseLabels(rec *moss.Container) error {
	h := &rec.Host
	if e.Labels == nil || len(h.LabelOpts) == 0 && !e.opts.SELinux {
		return nil
	}
	options := h.LabelOpts
	if len(options) == 0 {
		var err error
		if options, err = e.labelsOfOthers(h); err != nil {
			return err
		}
	}
	labels, err := e.Labels.Make(options)
	rec.SELinux = labels
	return err
}

func (e *Engine) labelsOfOthers(h *moss.HostConfig) (options []string, err error) {
	if h.Privileged || h.IpcMode == "host" || h.PidMode == "host" {
		return []string{moss.LabelDisable}, nil
	}
	for _, mode := range []string{h.IpcMode, h.PidMode} {
		ref, joins := moss.Joins(mode)
		if !joins {
			continue
		}
		c, err := e.find(ref)
		if err != nil {
			return nil, err
		}
		theirs := c.record().SELinux.Process
		if theirs == "" {
			continue
		}
		like, err := e.Labels.Like(theirs)
		if err != nil {
			return nil, err
		}
		if options != nil && !slices.Equal(options, like) {
			return nil, moss.Errorf(moss.Invalid, "--ipc and --pid containers SELinux labels aren't the same")
		}
		options = like
	}
	return options, nil
}

// keepLabels takes the labels of the containers of an earlier daemon.
func (e *Engine) keepLabels(records []*moss.Container) {
	if e.Labels == nil {
		return
	}
	for _, rec := range records {
		e.Labels.Keep(rec.SELinux)
	}
}

// freeLabels gives back what only this container had.
func (e *Engine) freeLabels(rec *moss.Container) {
	if e.Labels != nil {
		e.Labels.Free(rec.SELinux)
	}
}

// mountRootfs mounts a layer of a container, with the label of its files.
func (e *Engine) mountRootfs(ctx context.Context, rec *moss.Container, layer moss.ContainerID) (moss.Mount, error) {
	label := rec.SELinux.Mount
	if label == "" {
		return e.Rootfs.Mount(ctx, layer)
	}
	l, ok := e.Rootfs.(LabelledRootfs)
	if !ok {
		return moss.Mount{}, errors.New("the storage cannot label files")
	}
	return l.MountLabelled(ctx, layer, label)
}

// relabel gives the container's label to what is bound into it and is to have one: its own
// files, and what z and Z say. Without labels these say nothing, as with docker.
func (e *Engine) relabel(rec *moss.Container, points []moss.MountPoint) error {
	if e.Labels == nil || rec.SELinux.Mount == "" {
		return nil
	}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := e.Labels.Relabel(filepath.Join(rec.Dir, name), rec.SELinux, false); err != nil {
			return err
		}
	}
	for _, p := range points {
		// An image has the label by its mount; what a plugin's volume has is the plugin's matter.
		if p.Relabel == "" || p.Layer != "" || p.Name != "" && p.Driver != moss.LocalDriver {
			continue
		}
		if err := e.Labels.Relabel(p.Source, rec.SELinux, p.Relabel == "z"); err != nil {
			return moss.Wrap(err, "relabel the mounts of", rec.Name)
		}
	}
	return nil
}
