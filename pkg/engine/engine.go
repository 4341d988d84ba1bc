package engine

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Deps are the adapters an engine drives. All are needed.
type Deps struct {
	Images         ImageStore
	Archives       ImageArchives
	Saver          ImageSaver
	Transfers      ImageTransfers
	Registries     Registries
	Maker          ImageMaker
	Space          ImageSpace
	Rootfs         Rootfs
	Files          RootfsFiles
	Paths          ContainerPaths
	Networks       Networks
	Activator      Activator
	NetworkMaker   NetworkMaker
	NetworkRecords NetworkRecords
	Volumes        Volumes
	VolumeDrivers  VolumeDrivers
	VolumeData     VolumeData
	VolumeUse      VolumeMounts
	Secrets        Secrets
	SecretFiles    SecretFiles
	Labels         Labels // nil where the kernel has no SELinux
	Runtime        Runtime
	Units          Units
	Freezer        Freezer
	Limiter        Limiter
	Expecter       Expecter      // nil for none
	UnitHistory    UnitHistory   // nil for none
	Devices        DeviceChecker // nil where there are no limits
	Meter          Meter
	Stdio          Stdio
	Attacher       Attacher
	Logs           Logs
	Records        Records
	Events         Events
	History        EventHistory
	Host           Host
	Tracer         Tracer // nil for none
	Log            *slog.Logger
}

// Options are an engine's settings.
type Options struct {
	ID            string // of the engine, for life
	DataRoot      string // D
	ContainersDir string // D/containers
	Runtimes      map[string]string
	Runtime       string // the default one's name
	Init          bool   // containers have an init unless they say otherwise
	LogConfig     moss.LogConfig
	IDs           IDs
	Labels        []string
	Defaults      Defaults
	SELinux       bool       // every container gets labels, where the kernel has SELinux
	PublishIP     netip.Addr // where ports are held that name no address; the zero Addr is everywhere
}

// IDs are those of the engine's user namespace.
type IDs struct {
	UIDs, GIDs         uint32 // how many there are, from 0 on
	OwnerUID, OwnerGID uint32 // who 0 is outside
}

// Engine holds the containers. Its services are the types Containers, Views,
// Signals, Execs, Files, Copies, Images, Archives, Transfers, RegistryAccess, Networking and System.
type Engine struct {
	Deps
	opts Options
	born time.Time

	// mu guards the maps, and is held for a look-up or a change of them only.
	mu         sync.RWMutex
	containers map[moss.ContainerID]*container
	names      map[string]moss.ContainerID
	execs      map[moss.ExecID]*exec
	slices     map[moss.ContainerID]moss.IDMap // of --userns auto, on their way into records

	// claims are the images' turns.
	claims claims[moss.ImageID]
	// volumeClaims are the volumes' turns, by name.
	volumeClaims claims[string]
	// secretClaims are the turns of secrets and configs.
	secretClaims claims[moss.SecretID]

	// hosts is held for the change of a running container's hosts file.
	hosts sync.Mutex

	// quiet says that the daemon is going: the restart policy starts nothing any more.
	quiet atomic.Bool

	offered    atomic.Pointer[Offer]    // what containers can choose, once changed
	relabelled atomic.Pointer[[]string] // the engine's labels, once changed
	// background counts what goes on after a call has returned; ctx ends it.
	background sync.WaitGroup
	going      atomic.Int64 // how much of it there is
	ctx        context.Context
	stop       context.CancelFunc
}

// New makes an engine that knows nothing yet: Restore comes first.
func New(d Deps, o Options) *Engine {
	ctx, stop := context.WithCancel(context.Background())
	return &Engine{
		Deps: d, opts: o, born: time.Now(), ctx: ctx, stop: stop,
		containers: make(map[moss.ContainerID]*container),
		names:      make(map[string]moss.ContainerID),
		execs:      make(map[moss.ExecID]*exec),
	}
}

// Quiesce keeps the restart policies from starting anything: the daemon is
// going, perhaps with the holder of the namespaces.
func (e *Engine) Quiesce() { e.quiet.Store(true) }

// Close ends what goes on in the background and waits for it. Containers keep
// running.
func (e *Engine) Close() {
	e.stop()
	e.background.Wait()
}

// find looks a container up by id, name, or unique id prefix.
func (e *Engine) find(ref string) (*container, error) {
	name := strings.TrimPrefix(ref, "/")
	if name == "" {
		return nil, moss.Errorf(moss.Invalid, "a container's name or id is missing")
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if c, ok := e.containers[moss.ContainerID(name)]; ok {
		return c, nil
	}
	if id, ok := e.names[name]; ok {
		if c, ok := e.containers[id]; ok {
			return c, nil
		}
	}
	if c := e.byLink(name); c != nil {
		return c, nil
	}
	var found *container
	for id, c := range e.containers {
		if strings.HasPrefix(string(id), name) {
			if found != nil {
				return nil, moss.Errorf(moss.Invalid, "multiple IDs found with provided prefix: %s", name)
			}
			found = c
		}
	}
	if found == nil {
		return nil, moss.Errorf(moss.NotFound, "No such container: %s", name)
	}
	return found, nil
}

// locked finds a container and takes its lock; the caller releases it.
func (e *Engine) locked(ctx context.Context, ref string) (*container, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	if err := c.acquire(ctx); err != nil {
		return nil, moss.Wrap(err, "wait for the turn of", ref)
	}
	if c.isRemoved() {
		c.release()
		return nil, moss.Errorf(moss.NotFound, "No such container: %s", ref)
	}
	return c, nil
}

// all returns every container, the newest first.
func (e *Engine) all() []*container {
	e.mu.RLock()
	list := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		list = append(list, c)
	}
	e.mu.RUnlock()
	slices.SortFunc(list, func(a, b *container) int {
		if d := b.record().Created.Compare(a.record().Created); d != 0 {
			return d
		}
		return strings.Compare(string(a.id), string(b.id))
	})
	return list
}

// byUnit finds the container whose unit has the given 12 digits in its name.
func (e *Engine) byUnit(short string) *container {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for id, c := range e.containers {
		if id.Short() == short {
			return c
		}
	}
	return nil
}

// spawn runs fn in the background until the engine is closed.
func (e *Engine) spawn(fn func(ctx context.Context)) {
	e.going.Add(1)
	e.background.Go(func() {
		defer e.going.Add(-1)
		fn(e.ctx)
	})
}

// expectStart says that a container is about to be started.
func (e *Engine) expectStart() {
	if e.Expecter != nil {
		e.Expecter.Expect()
	}
}

// follow begins what no request asked for.
func (e *Engine) follow(ctx context.Context, what string, c *container) (context.Context, func(error)) {
	if e.Tracer == nil {
		return ctx, func(error) {}
	}
	ctx, end := e.Tracer.Begin(ctx, what, c.record())
	return ctx, func(err error) { end(c.record(), err) }
}

// Busy says whether something goes on that no request waits for and that ends
// with the engine: health checks, restarts that are due, ends of containers and
// detached execs.
func (e *Engine) Busy() bool { return e.going.Load() > 0 }

// publish tells the world of a container's change, with docker's attributes.
func (e *Engine) publish(rec *moss.Container, action string, at time.Time, extra ...string) {
	attrs := make(map[string]string, len(rec.Config.Labels)+len(extra)/2+2)
	maps.Copy(attrs, rec.Config.Labels)
	attrs["image"] = rec.ImageRef
	attrs["name"] = rec.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	e.Events.Publish(moss.Event{Type: moss.ContainerEvent, Action: action, ActorID: string(rec.ID), Attributes: attrs, Time: at})
}
