package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Containers changes containers through their life.
type Containers struct{ *Engine }

// Containers returns the service that changes containers.
func (e *Engine) Containers() Containers { return Containers{e} }

// Create makes a container from an image: its record, its name and its
// writable layer. Errors: NotFound for the image, Conflict for the name,
// Invalid and NotImplemented for what is asked of it.
func (s Containers) Create(ctx context.Context, r moss.CreateRequest) (_ moss.ContainerID, warnings []string, err error) {
	s.expectStart() // most are started as soon as they are there
	image, release, err := s.imageFor(ctx, r)
	if err != nil {
		return "", nil, err
	}
	defer release() // by then the container is known, and whoever removes images sees it
	id := s.newID()
	rec, warnings, err := s.compose(id, r, image)
	if err == nil {
		rec.Endpoints, err = s.endpoints(ctx, rec.Host.NetworkMode, r.Endpoints)
	}
	if err == nil {
		err = checkActivation(rec)
	}
	if check, ok := s.Runtime.(MountChecker); ok && err == nil {
		err = check.CheckMounts(r.Host.Mounts)
	}
	if s.Devices != nil && err == nil { // also where the limits will be discarded
		err = s.Devices.CheckDevices(rec.Host.DeviceLimits)
	}
	if err != nil {
		return "", nil, err
	}
	s.addressHeld(rec)
	dropSlice, err := s.mapIDs(rec, r.Config)
	defer func() { dropSlice() }() // by then the container is known
	if err != nil {
		return "", nil, err
	}
	if err := s.chooseLabels(rec); err != nil {
		return "", nil, err
	}
	letGo, err := s.takeSecrets(ctx, rec, r.Config.Labels)
	defer letGo() // by then the container is known, and whoever removes secrets sees it
	defer func() {
		if err != nil {
			s.freeLabels(rec)
		}
	}()
	if err != nil {
		return "", nil, err
	}
	discarded, err := s.discardedLimits(ctx, rec.Host.Resources, rec.Host.DeviceLimits...)
	if err != nil {
		return "", nil, err
	}
	warnings = slices.Concat(foreign(image, r.Platform), warnings, discarded)
	var undo undo
	defer func() {
		if err != nil {
			if undoErr := undo.run(ctx); undoErr != nil {
				s.Log.Error("an unfinished container could not be cleaned up", "container", id.Short(), "error", undoErr)
			}
		}
	}()

	if rec.Name, err = s.reserve(id, r.Name); err != nil {
		return "", nil, err
	}
	undo.add(func(context.Context) error { s.unreserve(rec.Name); return nil })

	if err := os.MkdirAll(rec.Dir, 0o700); err != nil {
		return "", nil, moss.Wrap(err, "make the directory of", rec.Name)
	}
	undo.add(func(context.Context) error { return os.RemoveAll(rec.Dir) })

	if err := s.createLayer(ctx, rec, id, image.ID); err != nil {
		return "", nil, moss.Wrap(err, "create the layer of", rec.Name)
	}
	undo.add(func(ctx context.Context) error { return s.Rootfs.Remove(ctx, id) })

	letImages, err := s.makeImageMounts(ctx, rec, &undo)
	defer letImages() // as above, of whoever removes images
	if err != nil {
		return "", nil, err
	}

	done, err := s.makeVolumes(ctx, rec, &undo)
	defer done() // by then the container is known, and whoever removes volumes sees it
	if err != nil {
		return "", nil, err
	}

	// Whoever connects at once waits until the container is known.
	if err := s.hold(ctx, rec); err != nil {
		return "", nil, err
	}
	undo.add(func(ctx context.Context) error { return s.letPortsGo(ctx, rec) })

	if err := s.Records.Put(rec, !rec.Host.AutoRemove); err != nil {
		return "", nil, err
	}
	s.mu.Lock()
	s.containers[id] = newContainer(rec)
	s.mu.Unlock()
	s.publish(rec, "create", rec.Created)
	return id, warnings, nil
}

// imageFor finds the image of a request and takes its turn; one that comes with
// moss is unpacked when it is first asked for.
func (s Containers) imageFor(ctx context.Context, r moss.CreateRequest) (image moss.Image, release func(), err error) {
	if _, err = s.resolveOrBuiltin(ctx, r.Config.Image); err != nil {
		return image, nil, err
	}
	if image, release, err = s.claim(ctx, r.Config.Image, false); err != nil {
		return image, nil, err
	}
	if err = checkPlatform(image, r.Config.Image, r.Platform); err != nil {
		release()
		return image, nil, err
	}
	return image, release, nil
}

// compose makes the record that a request and an image amount to.
func (s Containers) compose(id moss.ContainerID, r moss.CreateRequest, image moss.Image) (*moss.Container, []string, error) {
	rec := &moss.Container{
		ID: id, Created: time.Now(), Image: image.ID, ImageRef: r.Config.Image, State: moss.StateCreated,
		Config: merge(r.Config, image.Config, r.EntrypointSet), Host: r.Host, Mounts: r.Host.Mounts,
		Dir: filepath.Join(s.opts.ContainersDir, string(id)),
	}
	command := append(append([]string(nil), rec.Config.Entrypoint...), rec.Config.Cmd...)
	if len(command) == 0 || command[0] == "" {
		return nil, nil, moss.Errorf(moss.Invalid, "no command specified")
	}
	rec.Path, rec.Args = command[0], command[1:]

	if rec.Host.NetworkMode == "" || rec.Host.NetworkMode == "default" {
		rec.Host.NetworkMode = moss.NetworkBridge
	}
	if rec.Host.RestartPolicy.Mode == "" {
		rec.Host.RestartPolicy.Mode = moss.RestartNo
	}
	if log := &rec.Host.LogConfig; log.Driver == "" {
		log.Driver = s.opts.LogConfig.Driver
		if len(log.Options) == 0 {
			log.Options = s.opts.LogConfig.Options
		}
	}
	offer := s.offer()
	if rec.Host.Runtime == "" {
		rec.Host.Runtime = offer.Runtime
	}
	offer.Defaults.apply(&rec.Host)
	if rec.Host.Init == nil && s.opts.Init {
		rec.Host.Init = &s.opts.Init
	}
	if err := s.resolveJoins(rec); err != nil {
		return nil, nil, err
	}
	discarded, err := s.resolveLinks(rec)
	if err != nil {
		return nil, nil, err
	}
	if rec.Config.Hostname == "" {
		rec.Config.Hostname = id.Short()
		if rec.Host.NetworkMode == moss.NetworkHost || rec.Host.UTSMode == "host" {
			name, err := os.Hostname()
			if err != nil {
				return nil, nil, moss.Wrap(err, "read the name of the host", "")
			}
			rec.Config.Hostname = name
		}
	}
	if rec.Host.LogConfig.Driver == "json-file" {
		rec.LogPath = filepath.Join(rec.Dir, string(id)+"-json.log")
	}
	warnings, err := s.check(rec)
	return rec, append(discarded, warnings...), err
}

// check refuses what cannot be done and tells of what will not have the
// effect it seems to have.
func (s Containers) check(rec *moss.Container) (warnings []string, err error) {
	h := rec.Host
	if !bridged(h.NetworkMode) && len(h.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using "+string(h.NetworkMode)+" network mode")
	}
	if err := checkRestartPolicy(h.RestartPolicy, h.AutoRemove); err != nil {
		return nil, err
	}
	if rec.Config.StopSignal != "" {
		if _, err := moss.ParseSignal(rec.Config.StopSignal); err != nil {
			return nil, err
		}
	}
	if _, ok := s.offer().Runtimes[h.Runtime]; !ok {
		return nil, moss.Errorf(moss.Invalid, "unknown or invalid runtime name: %s", h.Runtime)
	}
	if err := s.Logs.Check(h.LogConfig); err != nil {
		return nil, err
	}
	if err := s.addVolumes(rec); err != nil {
		return nil, err
	}
	unwell, err := checkHealth(rec)
	return append(warnings, unwell...), err
}

// discardedLimits warns of limits whose cgroup controller the user manager does
// not have: it would drop them without a word. What runs containers without any
// refuses them.
func (s Containers) discardedLimits(ctx context.Context, r moss.Resources, devices ...moss.DeviceLimit) ([]string, error) {
	if r == (moss.Resources{}) && len(devices) == 0 {
		return nil, nil
	}
	host, err := s.Host.Host(ctx)
	if err != nil {
		return nil, err
	}
	var warnings []string
	for _, limit := range []struct {
		asked      bool
		controller string
		what       string
	}{
		{r.Memory != 0 || r.MemoryReservation != 0 || r.MemorySwap != 0, "memory", "memory limit"},
		{r.NanoCPUs != 0 || r.CPUPeriod != 0 || r.CPUQuota != 0 || r.CPUShares != 0, "cpu", "CPU limit"},
		{r.CpusetCpus != "" || r.CpusetMems != "", "cpuset", "cpuset"},
		{r.PidsLimit > 0, "pids", "PIDs limit"},
		{r.BlkioWeight != 0, "io", "block I/O weight"},
		{len(devices) > 0, "io", "block I/O limit of devices"},
	} {
		if limit.asked && host.NoLimits != "" {
			return nil, moss.Errorf(moss.NotImplemented, "cannot set the %s: %s", limit.what, host.NoLimits)
		}
		if limit.asked && !slices.Contains(host.Controllers, limit.controller) {
			warnings = append(warnings, fmt.Sprintf("The cgroup controller %q is not delegated to this user. The %s is discarded; moss doctor says how to get it.", limit.controller, limit.what))
		}
	}
	return warnings, nil
}

func checkRestartPolicy(p moss.RestartPolicy, autoRemove bool) error {
	switch p.Mode {
	case moss.RestartNo:
		if p.MaxRetries != 0 {
			return moss.Errorf(moss.Invalid, "invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
		return nil
	case moss.RestartAlways, moss.RestartUnlessStopped:
		if p.MaxRetries != 0 {
			return moss.Errorf(moss.Invalid, "invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
	case moss.RestartOnFailure:
		if p.MaxRetries < 0 {
			return moss.Errorf(moss.Invalid, "invalid restart policy: maximum retry count cannot be negative")
		}
	default:
		return moss.Errorf(moss.Invalid, "invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", p.Mode)
	}
	if autoRemove {
		return moss.Errorf(moss.Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	return nil
}
