package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/api"
	"github.com/moss-containers/moss/pkg/cgroup"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/events"
	"github.com/moss-containers/moss/pkg/image"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/logbridge"
	"github.com/moss-containers/moss/pkg/logs"
	"github.com/moss-containers/moss/pkg/meter"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/network"
	"github.com/moss-containers/moss/pkg/plugins"
	"github.com/moss-containers/moss/pkg/records"
	ociruntime "github.com/moss-containers/moss/pkg/runtime"
	"github.com/moss-containers/moss/pkg/sd"
	"github.com/moss-containers/moss/pkg/secret"
	"github.com/moss-containers/moss/pkg/selinux"
	"github.com/moss-containers/moss/pkg/stdio"
	"github.com/moss-containers/moss/pkg/storage"
	"github.com/moss-containers/moss/pkg/version"
	"github.com/moss-containers/moss/pkg/volume"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

// daemon is everything put together; close undoes it in reverse.
type daemon struct {
	cfg     settings
	log     *slog.Logger
	level   *slog.LevelVar
	steps   *steps
	sd      *sd.Notifier
	files   *sd.Inherited
	store   fdStore
	keeper  rootless.Keeper
	holder  rootless.Info
	mounts  string // the cgroup of the processes that serve mounts, and of others that outlive the daemon; "" where that is ours
	units   manager
	records *records.Store
	stores  *stores
	fds     *descriptors
	images  interface{ Limit(l transfer.Limits) }
	oci     *ociruntime.Runtime
	regs    *registry.Client
	plugins *plugins.Registry
	bus     engine.Events
	host    *machine
	engine  *engine.Engine
	api     *api.Server
	metrics *metrics // nil unless asked for
	traces  *tracing // likewise
	certs   certificates
	closer  []func() error

	recorder *sd.Recorder // nil unless the daemon ends when it is idle
	sources  []idleSource // for that
	engineID string
	status   string // what systemctl status shows
	reloads  chan chan error
	deaf     chan struct{} // closed when nobody hears of reloads any more
	mu       sync.Mutex    // of cfg, which only a reload changes
}

// wire puts the daemon together: the picture in DESIGN.md, in Go.
func wire(ctx context.Context, cfg settings, log *slog.Logger, level *slog.LevelVar, took *steps, traces *tracing) (d *daemon, err error) {
	d = &daemon{cfg: cfg, log: log, level: level, steps: took, traces: traces, reloads: make(chan chan error), deaf: make(chan struct{}), fds: &descriptors{log: part(log, "descriptors")}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	logbridge.Install(ctx, part(log, "libraries"))
	if err := inNamespaces(); err != nil {
		return d, err
	}
	if d.sd, err = sd.NewNotifier(); err != nil {
		return d, err
	}
	if d.files, err = sd.Inherit(); err != nil {
		return d, err
	}
	if d.holder, err = rootless.ReadInfo(cfg.Rootless()); err != nil {
		return d, err
	}
	d.keeper = rootless.NewKeeper(cfg.Rootless())
	if err := d.takeBack(ctx); err != nil {
		return d, err
	}
	d.store = sd.Store{Notifier: d.sd, Inherited: d.files}
	if cfg.Idle() > 0 {
		d.recorder = sd.NewRecorder(sd.Store{Notifier: d.sd, Inherited: d.files})
		d.store = d.recorder
	}
	uid, err := userns.OuterUID()
	if err != nil {
		return d, err
	}
	outer := int(uid)

	if d.units, err = newManager(ctx, cfg.Config, outer, part(log, "units")); err != nil {
		return d, err
	}
	d.closer = append(d.closer, d.units.Close)
	took.done("bus")
	rec, err := records.Open(cfg.Records(), cfg.Volatile())
	if err != nil {
		return d, err
	}
	d.records = rec
	d.closer = append(d.closer, rec.Close)
	took.done("records")
	if !underService { // there, the daemon ends alone
		if d.mounts, err = cgroup.Dir(cgroup.Of(d.holder.ChildPID)); err != nil {
			log.Warn("the cgroup of the namespaces is not to be found: what fuse-overlayfs mounts goes when the daemon does", "error", err)
		}
	}
	storing := storage.Options{
		GraphRoot: filepath.Join(cfg.Data, "storage"), RunRoot: filepath.Join(cfg.Run, "storage"), Driver: cfg.StorageDriver, DriverOptions: cfg.StorageOptions,
		MountGroup: d.mounts, Build: version.Version + " " + version.Commit, Log: part(log, "storage"),
	}
	d.regs, err = registry.New(registryOptions(cfg.Config, part(log, "registry")))
	if err != nil {
		return d, err
	}
	d.stores = newStores(ctx, storing, image.Options{TempDir: filepath.Join(cfg.Data, "tmp"), Log: part(log, "image"), Registry: d.regs, Limits: transferLimits(cfg.Config)}, took, d.fds)
	d.images = d.stores
	d.closer = append(d.closer, d.stores.close)
	if !d.stores.late {
		if err := d.stores.await(ctx); err != nil {
			return d, err
		}
		took.done("store")
	}
	store, images := lateRootfs{d.stores}, lateImages{d.stores}
	if err := os.Setenv("TMPDIR", filepath.Join(cfg.Data, "tmp")); err != nil { // what is begun there is of the data root's disk
		return d, err
	}
	netCfg := networkConfig(cfg.Config, d.holder)
	netCfg.Sockets = d.store
	if netCfg.Kept, _, err = rec.LoadNetworks(); err != nil { // of what cannot be read the engine tells
		return d, err
	}
	nets, err := network.New(netCfg) //nolint:contextcheck // what is closed after a failure has a time of its own
	if err != nil {
		return d, err
	}
	d.closer = append(d.closer, nets.Close)
	sockets, specs := cfg.PluginDirs()
	d.plugins = plugins.New(plugins.Options{Sockets: sockets, Specs: specs, Log: part(log, "plugins")})
	vols, err := volume.Open(volume.Options{Dir: filepath.Join(cfg.Data, "volumes"), RunDir: filepath.Join(cfg.Run, "volumes"), Plugins: d.plugins, Log: part(log, "volume")})
	if err != nil {
		return d, err
	}
	d.closer = append(d.closer, vols.Close)
	secrets, err := secret.Open(secret.Options{
		Dir: filepath.Join(cfg.Data, "secrets"), RunDir: filepath.Join(cfg.Run, "secrets"), Sealer: secret.NewCredentials(secret.CredentialsSocket), Log: part(log, "secret"),
	})
	if err != nil {
		return d, err
	}
	oci, err := ociruntime.New(ociruntime.Config{
		Binary: beside(names.Runtime), Root: filepath.Join(cfg.Run, "runtime"), Bundles: filepath.Join(cfg.Run, "bundles"), Join: cfg.Rootless(), EntrySockets: cfg.Entries(),
		Others: otherRuntimes(cfg.Config), Outliving: d.mounts,
	})
	if err != nil {
		return d, err
	}
	d.oci = oci
	offer, err := newOffer(cfg.Config, oci.Runtimes())
	if err != nil {
		return d, err
	}
	gauge, err := meter.New()
	if err != nil {
		return d, err
	}
	if m, ok := d.units.(standIn); ok {
		why, err := m.Groups(ctx)
		if err != nil {
			return d, err
		}
		if why != "" {
			gauge.Main = m.main
		}
	}
	streams, err := stdio.New(stdio.Config{
		Store: d.store, Dir: filepath.Join(cfg.Run, "stdio"), Console: filepath.Join(cfg.Run, "console"), Spill: filepath.Join(cfg.Data, "tmp"),
		Failed: func(id moss.StreamID, err error) {
			part(log, "stdio").Warn("output does not reach its log, the first time in this run", "id", moss.ContainerID(id).Short(), "error", err)
		},
	})
	if err != nil {
		return d, err
	}
	d.engineID, err = rec.EngineID()
	if err != nil {
		return d, err
	}

	d.sources = []idleSource{
		{"output of a container", func() (time.Time, bool) { return streams.Moved(), true }},
		{"a container asks for names", func() (time.Time, bool) { return nets.Asked(), true }},
		{"files of removed containers", func() (time.Time, bool) { return time.Time{}, !d.stores.busy() }},
	}

	ids, err := engineIDs(uid)
	if err != nil {
		return d, err
	}
	d.host = &machine{uid: outer, units: d.units, holder: d.holder, nets: netCfg, stores: d.stores}
	if told := rec.Recovered(); told != "" {
		d.warn("WARNING: " + told)
	}
	for _, note := range nets.Notes() {
		d.warn(note)
	}
	bus := openEvents(filepath.Join(cfg.Data, "events.json"), part(log, "events"))
	d.closer = append(d.closer, bus.Close)
	keeper := logs.New()
	keeper.UsePlugins(d.plugins, filepath.Join(cfg.Run, "logging"))
	containerLog := moss.LogConfig{Driver: cfg.LogDriver, Options: cfg.LogOptions}
	if err := keeper.CheckOptions(containerLog); err != nil {
		return d, fmt.Errorf("cannot use the setting \"log-opts\": %w", err)
	}
	deps := engine.Deps{
		Images: images, Archives: images, Saver: images, Transfers: images, Registries: d.regs, Maker: images, Space: images,
		Rootfs: store, Files: store, Paths: store, Networks: nets, Activator: d.units, NetworkMaker: nets, NetworkRecords: rec, Volumes: vols, VolumeData: vols, VolumeUse: vols, VolumeDrivers: vols, Secrets: secrets, SecretFiles: secrets, Runtime: oci, Units: d.units, Freezer: d.units, Limiter: d.units, Meter: gauge,
		Stdio: streams, Attacher: streams, Logs: keeper, Records: rec, Events: bus, History: bus,
		Host: d.host, Log: part(log, "engine"),
	}
	if x, ok := d.units.(engine.Expecter); ok {
		deps.Expecter = x
	}
	if x, ok := d.units.(engine.UnitHistory); ok {
		deps.UnitHistory = x
	}
	if x, ok := d.units.(engine.DeviceChecker); ok {
		deps.Devices = x
	}
	if selinux.Enabled() {
		deps.Labels = selinux.Labels{}
		if cfg.SELinux {
			if err := (selinux.Labels{}).Check(); err != nil {
				d.warn("WARNING: The setting selinux-enabled gives containers no labels: " + err.Error() + ".")
			}
		}
	} else if cfg.SELinux {
		d.warn("WARNING: The kernel has no SELinux. The setting selinux-enabled is of no effect.")
	}
	if cfg.MetricsAddress != "" {
		d.metrics = newMetrics()
		deps.Events = countedEvents{deps.Events, d.metrics.events}
	}
	if d.metrics != nil || d.traces != nil {
		phases{d.metrics, d.traces}.decorate(&deps, store, nets, oci, d.units, streams, vols)
	}
	deps.Stdio = roomyStdio{deps.Stdio, d.fds}
	d.bus = deps.Events
	d.engine = engine.New(deps, engine.Options{
		ID: d.engineID, DataRoot: cfg.Data, ContainersDir: cfg.Containers(), Labels: cfg.Labels,
		Runtimes: offer.Runtimes, Runtime: offer.Runtime, Defaults: offer.Defaults, Init: cfg.Init, SELinux: cfg.SELinux,
		LogConfig: containerLog, IDs: ids, PublishIP: cfg.IP,
	})
	d.closer = append(d.closer, func() error { d.engine.Close(); return nil })
	var containers api.Containers = d.engine.Containers()
	if d.metrics != nil {
		containers = d.metrics.containers(containers)
		d.metrics.watch(d)
	}
	d.api = api.New(api.Options{
		Containers: containers, Upkeep: d.engine.Containers(), Links: d.engine.Containers(), Views: d.engine.Views(), Use: d.engine.Views(), Signals: d.engine.Signals(), Execs: d.engine.Execs(),
		Images: d.engine.ImageService(), Archives: d.engine.ArchiveService(), Transfers: d.engine.TransferService(),
		Registries: d.engine.RegistryService(), Files: d.engine.FileService(), Copies: d.engine.CopyService(), Usage: d.engine.System(), Networks: d.engine.Networking(), Volumes: d.engine.VolumeService(), Secrets: d.engine.SecretService(), System: d.engine.System(), Plugins: d.plugins,
		NoBridge: netCfg.NoBridge, NetworkOptions: cfg.DefaultNetworkOpts, SELinux: deps.Labels != nil, SELinuxEnabled: deps.Labels != nil && cfg.SELinux, OpenFiles: d.fds.used, Debug: d.debug(), Trace: traces.requests(), PeerUID: d.keeper.PeerUID, Log: part(log, "api"), Version: version.Version, GitCommit: version.Commit, BuildTime: version.BuildTime,
	})
	d.api.Authorize(cfg.AuthorizationPlugins)
	if err := d.checkAuthorizers(cfg.AuthorizationPlugins); err != nil { //nolint:contextcheck // as in reload
		log.Error("requests are refused until the plugin is there", "error", err)
	}
	d.sources = append(d.sources,
		idleSource{"clients", d.api.Quiet},
		idleSource{"health checks, restarts or execs", func() (time.Time, bool) { return time.Time{}, !d.engine.Busy() }})
	return d, nil
}

// close undoes wire in reverse and joins the errors.
func (d *daemon) close() error {
	var errs []error
	for _, undo := range slices.Backward(d.closer) {
		errs = append(errs, undo())
	}
	d.closer = nil
	return errors.Join(errs...)
}

func part(log *slog.Logger, component string) *slog.Logger { return log.With("component", component) }

// inNamespaces makes sure that this process is where moss.service puts it, and
// that execs it starts become its children.
func inNamespaces() error {
	if !userns.Joined() {
		if err := userns.CheckNotRoot(); err != nil {
			return err
		}
		return fmt.Errorf("mossd is run by moss.service, inside the namespaces of moss-rootless.service: set it up with 'moss setup', or set %s to the holder's state directory", userns.JoinEnv)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a child subreaper: %w", err)
	}
	return nil
}

// beside is a program that was installed together with this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// openEvents makes the bus; where the history cannot be kept, the engine runs without.
func openEvents(path string, log *slog.Logger) *events.Bus {
	fail := func(err error) { log.Warn("events are not kept over a restart any more", "error", err) }
	bus, err := events.Open(path, fail)
	if err != nil {
		fail(err)
		return new(events.Bus)
	}
	return bus
}
