package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

const imageID = moss.ImageID("sha256:1111111111111111111111111111111111111111111111111111111111111111")

// rig is a machine of fakes with an engine on it. The machine outlives the engine.
type rig struct {
	*engine.Engine
	t          *testing.T
	dir        string
	units      *fake.Units
	runtime    *fake.Runtime
	rootfs     *fake.Rootfs
	nets       *fake.Networks
	ports      *fake.Activator
	expected   expected
	netRecords *fake.NetworkRecords
	stdio      *fake.Stdio
	logs       *fake.Logs
	records    *fake.Records
	events     *fake.Events
	images     *fake.Images
	reg        *fake.Registry
	volumes    *fake.Volumes
	secrets    *fake.Secrets
	going      atomic.Bool   // what Host.GoingDown says
	slow       time.Duration // how long a client takes to join
	lag        time.Duration // of each read of a container's files
	// how long it takes to make a layer, and to delete an image
	layering, deleting time.Duration
	labels             engine.Labels // nil: the kernel has no SELinux
	selinux            bool          // the setting
	publishIP          netip.Addr    // the setting
	wrap               func(*engine.Deps)
	faults             *faults
	halt               func()
}

func (r *rig) Host(context.Context) (moss.HostInfo, error) {
	return moss.HostInfo{Controllers: []string{"cpu"}}, nil
}
func (r *rig) Storage() moss.StorageInfo      { return moss.StorageInfo{Driver: "fake"} }
func (r *rig) GoingDown(context.Context) bool { return r.going.Load() }

// newRig boots an engine on an empty machine; pipes says that streams carry
// data, which they cannot in a synctest bubble.
func newRig(t *testing.T, pipes bool) *rig {
	r := newMachine(t, pipes)
	r.boot(false)
	return r
}

func newMachine(t *testing.T, pipes bool) *rig {
	dir := t.TempDir()
	for _, d := range []string{"rootfs", "containers"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{
		t: t, dir: dir, units: fake.NewUnits(), runtime: fake.NewRuntime(), rootfs: fake.NewRootfs(filepath.Join(dir, "rootfs")),
		nets: fake.NewNetworks(), ports: new(fake.Activator), netRecords: new(fake.NetworkRecords), stdio: fake.NewStdio(nil), logs: fake.NewLogs(), records: fake.NewRecords(), events: &fake.Events{}, volumes: fake.NewVolumes(filepath.Join(dir, "volumes")), secrets: fake.NewSecrets(filepath.Join(dir, "secrets")),
	}
	r.stdio.NoPipes = !pipes
	r.images = fake.NewImages(r.rootfs)
	r.reg = fake.NewRegistry("registry.example.com", r.images)
	r.addImage()
	t.Cleanup(func() {
		if r.halt != nil {
			r.halt()
		}
	})
	return r
}

// addImage puts the image "box" in, as a load does.
func (r *rig) addImage() {
	r.images.Add(moss.Image{
		ID: imageID, Names: []string{"docker.io/library/box:latest"}, OS: "linux", Architecture: "amd64",
		Config: moss.ContainerConfig{Labels: map[string]string{"of": "box"}},
	})
}

// boot starts a daemon, by mossd's order.
func (r *rig) boot(fresh bool) { r.t.Helper(); r.bootWith(newFaults(), fresh) }

// bootAndKill starts a daemon that dies before its n-th call.
func (r *rig) bootAndKill(n int) {
	f := newFaults()
	f.arm(-1, n)
	r.bootWith(f, false)
	settle()
	r.crash()
}

func (r *rig) bootWith(f *faults, fresh bool) {
	r.t.Helper()
	r.wire(f)
	if err := r.Restore(r.t.Context(), fresh); err != nil {
		r.t.Fatal("restore:", err)
	}
	r.watch()
}

// bootAndEnd starts a daemon in a new holder that is told to end before its
// n-th call, from 1, and says whether it had come so far as to remember the holder.
func (r *rig) bootAndEnd(n int) (restored bool, calls []string) {
	r.t.Helper()
	ctx, end := context.WithCancel(r.t.Context())
	defer end()
	f := newFaults()
	f.arm(-1, -1)
	f.endAt, f.end = n, end
	r.wire(f)
	err := r.Restore(ctx, true)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.t.Fatal("restore:", err)
	}
	r.watch()
	synctest.Wait()
	calls = f.disarm()
	r.crash()
	return err == nil, calls
}

// wire puts an engine together.
func (r *rig) wire(f *faults) {
	r.faults = f
	deps := engine.Deps{
		Images: faultyImages{r.images, f, &r.deleting}, Archives: r.images, Saver: r.images, Transfers: r.reg, Registries: r.reg, Maker: faultyMaker{r.images, f}, Space: r.images,
		Rootfs: faultyRootfs{r.rootfs, f, &r.layering}, Files: faultyFiles{r.rootfs, f, &r.lag}, Paths: faultyPaths{r.rootfs, f}, Freezer: faultyFreezer{r.units, f}, Limiter: faultyLimiter{r.units, f}, Expecter: &r.expected, UnitHistory: r.units, Devices: r.units, Meter: r.units, Networks: faultyNetworks{r.nets, f}, Activator: r.ports, NetworkMaker: r.nets, NetworkRecords: r.netRecords, Volumes: faultyVolumes{r.volumes, f}, VolumeData: faultyVolumes{r.volumes, f}, VolumeUse: faultyVolumes{r.volumes, f}, VolumeDrivers: r.volumes, Secrets: r.secrets, SecretFiles: faultySecrets{r.secrets, f}, Labels: r.labels,
		Runtime: faultyRuntime{r.runtime, f}, Units: faultyUnits{r.units, f}, Stdio: faultyStdio{r.stdio, f}, Attacher: slowAttacher{r.stdio, &r.slow},
		Logs: faultyLogs{r.logs, f}, Records: faultyRecords{r.records, f}, Events: r.events, History: r.events, Host: r,
		Log: slog.New(slog.DiscardHandler),
	}
	if r.wrap != nil {
		r.wrap(&deps)
	}
	r.Engine = engine.New(deps, engine.Options{
		ID: "engine", DataRoot: r.dir, ContainersDir: filepath.Join(r.dir, "containers"),
		Runtimes: map[string]string{"moss-runtime": "moss-runtime"}, Runtime: "moss-runtime", LogConfig: moss.LogConfig{Driver: "json-file"},
		SELinux: r.selinux, PublishIP: r.publishIP,
		IDs: engine.IDs{UIDs: 65537, GIDs: 60001, OwnerUID: 1000, OwnerGID: 100},
	})
}

func (r *rig) watch() {
	ctx, cancel := context.WithCancel(context.Background()) // the test's own ends before its clean-up
	done := make(chan struct{})
	e := r.Engine
	go func() {
		defer close(done)
		if err := e.Watch(ctx); ctx.Err() == nil {
			r.t.Error("the watch ended:", err)
		}
	}()
	r.halt = func() {
		cancel()
		<-done
		e.Close()
		r.halt = nil
	}
}

// crash kills the daemon: nothing it still does has an effect.
func (r *rig) crash() {
	r.faults.kill()
	r.halt()
	r.stdio = r.stdio.Restart()
}

type option func(*moss.CreateRequest)

func named(name string) option { return func(q *moss.CreateRequest) { q.Name = name } }

func policy(mode moss.RestartMode, retries int) option {
	return func(q *moss.CreateRequest) {
		q.Host.RestartPolicy = moss.RestartPolicy{Mode: mode, MaxRetries: retries}
	}
}

func autoRemove(q *moss.CreateRequest) { q.Host.AutoRemove = true }

func published(q *moss.CreateRequest) {
	q.Host.PortBindings = []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: 8080}}
}

func (r *rig) create(opts ...option) moss.ContainerID {
	r.t.Helper()
	id, err := r.tryCreate(opts...)
	if err != nil {
		r.t.Fatal("create:", err)
	}
	return id
}

func (r *rig) tryCreate(opts ...option) (moss.ContainerID, error) {
	q := moss.CreateRequest{Config: moss.ContainerConfig{Image: "box", Cmd: []string{"sleep", "inf"}}}
	for _, o := range opts {
		o(&q)
	}
	id, _, err := r.Containers().Create(r.t.Context(), q)
	return id, err
}

func (r *rig) start(id moss.ContainerID) {
	r.t.Helper()
	r.must(r.Containers().Start(r.t.Context(), string(id)))
}

func (r *rig) run(opts ...option) moss.ContainerID {
	r.t.Helper()
	id := r.create(opts...)
	r.start(id)
	return id
}

func (r *rig) stop(id moss.ContainerID) error {
	return r.Containers().Stop(r.t.Context(), string(id), moss.StopOptions{})
}

func (r *rig) remove(id moss.ContainerID, force bool) error {
	return r.Containers().Remove(r.t.Context(), string(id), force)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) get(id moss.ContainerID) moss.Container {
	r.t.Helper()
	c, err := r.Views().Get(string(id))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) gone(id moss.ContainerID) bool {
	_, err := r.Views().Get(string(id))
	return moss.ClassOf(err) == moss.NotFound && err != nil
}

// exit ends a run and waits until that has been dealt with; outside a bubble
// settled has to be waited for otherwise.
func (r *rig) exit(id moss.ContainerID, code int) {
	r.units.Exit(id, code)
	synctest.Wait()
}

func (r *rig) wantState(id moss.ContainerID, state moss.State, code int) {
	r.t.Helper()
	if c := r.get(id); c.State != state || c.Run.ExitCode != code {
		r.t.Errorf("it is %s with code %d (%s), want %s with %d", c.State, c.Run.ExitCode, c.Run.Error, state, code)
	}
}

func (r *rig) wantActions(id moss.ContainerID, want ...string) {
	r.t.Helper()
	if got := r.events.Actions(string(id)); !slices.Equal(got, want) {
		r.t.Errorf("events %q, want %q", got, want)
	}
}

func (r *rig) wantClass(err error, class moss.Class) {
	r.t.Helper()
	if err == nil || moss.ClassOf(err) != class {
		r.t.Errorf("%v, want an error of class %s", err, class)
	}
}

// wrongs is what is wrong with the machine while nothing is under way:
// everything that is there must belong to a running container, or to a
// record, and the other way round.
func (r *rig) wrongs() []string {
	all, _, err := r.records.Load()
	r.must(err)
	have := map[string]moss.UnitStatus{}
	list, err := r.units.List(r.t.Context())
	r.must(err)
	for _, st := range list {
		have[st.Short] = st
	}
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	live, known := map[moss.ContainerID]bool{}, map[moss.ContainerID]bool{}
	for _, rec := range all {
		known[rec.ID] = true
		for _, m := range rec.Mounts {
			if m.Type == moss.MountImage {
				known[m.Layer] = true
				if _, err := r.images.Resolve(r.t.Context(), string(m.Image)); err != nil {
					say("%s has lost the image that it mounts: %v", rec.Name, err)
				}
			}
		}
		c, err := r.Views().Get(string(rec.ID))
		byName, nameErr := r.Views().Get(rec.Name)
		if nameErr != nil || byName.ID != rec.ID {
			say("%s is %q by its record, which is %q: %v", rec.ID.Short(), rec.Name, byName.ID, nameErr)
		}
		switch {
		case err != nil:
			say("%s has a record and the engine does not know it", rec.Name)
		case c.State != rec.State || c.Intent != rec.Intent || c.Run.PID != rec.Run.PID:
			say("%s is %s %s %d on disk, and %s %s %d in memory", rec.Name, rec.State, rec.Intent, rec.Run.PID, c.State, c.Intent, c.Run.PID)
		}
		if rec.State.Alive() {
			live[rec.ID] = true
			for _, m := range rec.Mounts {
				if m.Type == moss.MountImage {
					live[m.Layer] = true
				}
			}
			if st := have[rec.ID.Short()]; st.Phase != moss.UnitRunning || st.PID != rec.Run.PID {
				say("%s is %s with pid %d, its unit %s with %d", rec.Name, rec.State, rec.Run.PID, st.Phase, st.PID)
			}
			if st := have[rec.ID.Short()]; st.Frozen != rec.Run.Frozen || st.Frozen != (rec.State == moss.StatePaused) {
				say("%s is %s, stands still %v, its unit %v", rec.Name, rec.State, rec.Run.Frozen, st.Frozen)
			}
			if spec, _ := r.units.Spec(rec.ID); spec.Resources != rec.Host.Resources {
				say("%s is limited by %+v, its unit by %+v", rec.Name, rec.Host.Resources, spec.Resources)
			}
			if rec.Network == nil {
				say("%s runs without a network", rec.Name)
			}
			delete(have, rec.ID.Short())
			continue
		}
		if rec.Run.PID != 0 || rec.Network != nil || rec.Intent == moss.IntentStart || rec.Intent == moss.IntentStop {
			say("%s is %s with pid %d, network %v, intent %q", rec.Name, rec.State, rec.Run.PID, rec.Network, rec.Intent)
		}
	}
	for short, st := range have {
		say("unit %s is left, %s", short, st.Phase)
	}
	for _, id := range r.rootfs.Mounted() {
		if !live[id] {
			say("a mount of %s is left", id.Short())
		}
	}
	for _, rec := range all {
		if _, err := r.images.Resolve(r.t.Context(), string(rec.Image)); err != nil {
			say("%s has lost its image: %v", rec.Name, err)
		}
	}
	r.wrongVolumes(all, say)
	r.wrongSecrets(live, say)
	layers, err := r.rootfs.List(r.t.Context())
	r.must(err)
	for _, id := range layers {
		if !known[id] {
			say("a layer of %s is left", id.Short())
		}
	}
	for _, id := range r.runtime.Containers() {
		if !live[id] {
			say("a bundle of %s is left", id.Short())
		}
	}
	for _, id := range r.stdio.Left() {
		x, err := r.Execs().Get(string(id))
		if !live[moss.ContainerID(id)] && (err != nil || !x.Running || !live[x.Container]) {
			say("streams of %s are left", id[:12])
		}
	}
	if left := r.nets.Left(); len(live) == 0 && len(left) > 0 {
		say("of the network is left %v", left)
	}
	return wrong
}

func (r *rig) check() {
	r.t.Helper()
	for _, w := range r.wrongs() {
		r.t.Error(w)
	}
}

// checkEmpty wants nothing left at all.
func (r *rig) checkEmpty() {
	r.t.Helper()
	r.check()
	all, _, err := r.records.Load()
	r.must(err)
	list, err := r.Views().List(moss.ContainerFilter{All: true})
	r.must(err)
	dirs, err := os.ReadDir(filepath.Join(r.dir, "containers"))
	r.must(err)
	if len(all)+len(list)+len(dirs) > 0 {
		r.t.Errorf("%d records, %d containers and %d directories are left", len(all), len(list), len(dirs))
	}
}

// bubble runs a test with an engine on a clock of its own.
func bubble(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newRig(t, false)) })
}

// settle lets everything under way end, back-offs too.
func settle() {
	time.Sleep(3 * time.Minute)
	synctest.Wait()
}
