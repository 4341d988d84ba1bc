package holder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rootless-containers/rootlesskit/v3/pkg/parent"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

// Environment variables between the holder's processes.
const (
	pipeEnv       = "_MOSS_HOLDER_PIPE"   // rootlesskit's pipes: this process is the child
	driverEnv     = "_MOSS_HOLDER_DRIVER" // network driver, for the child
	debugEnv      = "_MOSS_HOLDER_DEBUG"  // set where the child is to log more
	stateEnv      = "_MOSS_HOLDER_STATE"  // state directory, for the child
	activationEnv = "_MOSS_HOLDER_LISTEN" // rootlesskit insists on a name
)

// Run holds the namespaces until SIGTERM, SIGINT or the end of ctx, which is the
// same as SIGTERM. It tells the service manager (sd_notify(3)) when namespaces,
// network and ports API are usable, and needs the process for itself: it takes
// all signals, and where Config has no Stack and the driver is gvisor-tap-vsock, it
// replaces the process by moss-gvisor with the same arguments. [Init] must have been called. A nil error is an orderly end.
func Run(ctx context.Context, cfg Config) error {
	// rootlesskit hands signals on to the child. This is to know that one came.
	asked, release := signal.NotifyContext(context.WithoutCancel(ctx), unix.SIGTERM, unix.SIGINT)
	defer release()
	signals := make(chan os.Signal, 1) // for one that comes before this program is another
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	cfg, err := cfg.normal()
	if err != nil {
		return err
	}
	if err := preflight(ctx, cfg); err != nil {
		return err
	}
	m := probe(ctx)
	ch, err := choose(cfg.NetworkDriver, cfg.IPv6, m)
	if err != nil {
		return err
	}
	if err := checkTun(ch.Driver, "/dev/net/tun"); err != nil {
		return err
	}
	if ch.Driver == names.DriverGvisor && cfg.Stack == nil {
		release()
		return becomeGvisor(ctx, signals)
	}
	bridgeLogrus(cfg.Log)
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make the holder's state directory: %w", err)
	}
	if err := parent.InitStateDir(cfg.StateDir); err != nil {
		return fmt.Errorf("cannot take the holder's state directory: %w", err)
	}
	asked6 := cfg.IPv6
	cfg.IPv6 = wantsIPv6(cfg, ch.Driver, m)
	net, err := parentDriver(cfg, ch)
	if err != nil && cfg.IPv6 && !asked6 { // an old slirp4netns
		cfg.IPv6 = false
		net, err = parentDriver(cfg, ch)
	}
	if err != nil {
		return err
	}
	rec := &recorder{ParentDriver: net, info: rootless.Info{
		NetworkDriver: ch.Driver, Why: ch.Why, Better: better(ch.Driver, m), HostLoopback: cfg.HostLoopback, IPv6: cfg.IPv6, StateDir: cfg.StateDir,
		APISock: filepath.Join(cfg.StateDir, rootless.APISockFile), NetNS: filepath.Join(cfg.StateDir, rootless.NetNSFile),
	}}
	ports, err := builtin.NewParentDriver(lineWriter{cfg.Log.With("driver", "ports")}, cfg.StateDir, true)
	if err != nil {
		return fmt.Errorf("cannot set up the port driver: %w", err)
	}

	// The notification socket is this process's alone, and sockets are not passed on.
	ready := readiness{stateDir: cfg.StateDir, notify: os.Getenv("NOTIFY_SOCKET"), log: cfg.Log, info: rec.recorded}
	hostPorts := newHostPorts(ports, cfg.Log.With("driver", "ports"))
	if cfg.WayOut && goesPast(ch.Driver) {
		ready.outward = outwardOf(cfg)
		ready.wayOut = hostPorts.sockets.startOutward
	}
	for _, k := range []string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(k)
	}
	os.Setenv(driverEnv, ch.Driver)
	os.Unsetenv(ipv6Env)
	if cfg.IPv6 {
		os.Setenv(ipv6Env, "1")
	}
	if cfg.Log.Enabled(ctx, slog.LevelDebug) {
		os.Setenv(debugEnv, "1")
	}

	// pasta goes into the background; it is to be this process's child even so.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become a subreaper: %w", err)
	}
	defer killChildren(cfg.Log)
	// A signal that this process sends itself must not come after it has let go of signals.
	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(os.Getpid(), unix.SIGTERM) })
	defer stop()
	defer context.AfterFunc(asked, func() { ready.tell(daemon.SdNotifyStopping) })()
	watched, err := ready.watch(ctx)
	if err != nil {
		return err
	}
	background.Go(func() {
		err, ok := <-watched
		if err != nil {
			cancel(err) // nothing is usable: end
		}
		if err != nil || !ok {
			return
		}
		if asked.Err() != nil { // too early for rootlesskit to hand it on
			_ = unix.Kill(os.Getpid(), unix.SIGTERM)
		}
		debug.FreeOSMemory() // set-up is over, waiting begins
		if err := driverEnds(ctx, rec.recorded()); err != nil {
			cancel(err)
		}
	})
	keptUntilEnd, err := serveKeeping(ctx, cfg.StateDir, cfg.Log)
	if err != nil {
		return err
	}
	// First of all stop: an end of ctx that is no wish of anybody's is no signal.
	defer func() { stop(); cancel(nil); keptUntilEnd() }()
	if asked.Err() != nil {
		return os.RemoveAll(cfg.StateDir)
	}
	err = supervise(cfg.StateDir, parent.Opt{
		PipeFDEnvKey:             pipeEnv,
		ChildUseActivationEnvKey: activationEnv,
		StateDir:                 cfg.StateDir,
		StateDirEnvKey:           stateEnv,
		NetworkDriver:            rec,
		PortDriver:               tellingTaker{hostPorts, "/proc"},
		DetachNetNS:              true,
		Propagation:              propagation,
		SubidSource:              subidSource(),
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("the namespace holder ended: %w", errors.Join(cause, err))
	}
	if err != nil && asked.Err() != nil {
		// The child had no time yet to take the signal for what it is.
		cfg.Log.Debug("ended while being set up", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("the namespace holder ended: %w", err)
	}
	return nil
}

// becomeGvisor goes on in the program that has gvisor-tap-vsock. What was asked for
// until then is heeded here; what is asked for later ends the process, by the
// signal itself until the other program takes it: nothing is made yet.
func becomeGvisor(ctx context.Context, signals chan os.Signal) error {
	signal.Stop(signals) // returns when what came is in the channel
	select {
	case <-signals:
		return nil
	case <-ctx.Done():
		return nil
	default:
		return fmt.Errorf("the network driver %s is a program of its own; another driver is to be had with: sudo apt install slirp4netns: %w",
			names.DriverGvisor, rootless.ExecGvisor(os.Args[1:]))
	}
}

// propagation: what is mounted on the host later is seen inside, never the
// other way round.
const propagation = "rslave"

// subidSource makes rootlesskit look where package userns does.
func subidSource() parent.SubidSource {
	if (userns.Source{}).Dynamic() {
		return parent.SubidSourceDynamic
	}
	return parent.SubidSourceStatic
}

// preflight says in one sentence what rootlesskit would say in a stack of them.
func preflight(ctx context.Context, cfg Config) error {
	if err := userns.CheckNotRoot(); err != nil {
		return err
	}
	for _, t := range []struct{ tool, pkg string }{
		{"newuidmap", "uidmap"}, {"newgidmap", "uidmap"}, {"ip", "iproute2"}, {"nsenter", "util-linux"},
	} {
		if _, err := exec.LookPath(t.tool); err != nil {
			return fmt.Errorf("%s is missing; install it with: sudo apt install %s", t.tool, t.pkg)
		}
	}
	m, err := userns.Lookup(ctx)
	if err != nil {
		return err
	}
	if err := m.CheckSize(); err != nil {
		cfg.Log.Warn(err.Error()) //nolint:sloglint // a sentence for the user
	}
	return nil
}

// checkTun opens the device all network drivers but "none" need.
func checkTun(driver, dev string) error {
	if driver == names.DriverNone {
		return nil
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the network driver %s cannot open %s; let users open it with: sudo chmod 0666 %s: %w", driver, dev, dev, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("the network driver %s needs %s; get it with: sudo modprobe tun: %w", driver, dev, err)
	}
	return fmt.Errorf("the network driver %s cannot open %s: %w", driver, dev, err)
}
