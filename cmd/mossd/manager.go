package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units"
	"github.com/moss-containers/moss/pkg/units/local"
	systemdunits "github.com/moss-containers/moss/systemd-units"
)

// manager runs the containers: systemd's user manager, or what stands in for it.
type manager interface {
	engine.Units
	engine.Freezer
	engine.Limiter
	engine.Activator
	place
}

// place is what the daemon itself needs of its manager.
type place interface {
	// Settle returns when every Watch has been told all that there was until now.
	Settle(ctx context.Context) error
	// GoingDown says whether the holder is being stopped or restarted.
	GoingDown(ctx context.Context) bool
	// Describe says in info what the manager is and can do.
	Describe(ctx context.Context, h *moss.HostInfo) error
	Close() error
}

// underService says that moss system service has started this process.
var underService = os.Getenv(local.SocketEnv) != ""

// newManager is systemd's user manager, unless this process was started by what stands in for it.
func newManager(ctx context.Context, cfg config.Config, uid int, log *slog.Logger) (manager, error) {
	if path := os.Getenv(local.SocketEnv); path != "" {
		api := os.Getenv(local.APIEnv)
		for _, name := range []string{local.SocketEnv, local.APIEnv} { // children are not meant
			os.Unsetenv(name)
		}
		return standIn{local.NewClient(path, local.Forward{Program: entry(cfg, api), Sockets: cfg.Entries()})}, nil
	}
	m, err := units.New(ctx, units.Options{Prefix: cfg.Prefix, UID: &uid, RuntimeDir: filepath.Dir(cfg.Run), Entry: entry(cfg, filepath.Join(cfg.Run, "moss.sock")), EntrySockets: cfg.Entries(), Journal: journalOf(uid), Log: log})
	if err != nil {
		return nil, err
	}
	return userManager{m, cfg.Prefix}, nil
}

type userManager struct {
	*units.Manager
	prefix string
}

func (m userManager) GoingDown(ctx context.Context) bool {
	state, err := m.State(ctx, systemdunits.Holder(m.prefix))
	return err != nil || state.Active != "active" || state.Job
}

func (m userManager) Describe(ctx context.Context, h *moss.HostInfo) (err error) {
	if _, h.SystemdVersion, err = m.Version(ctx); err != nil {
		return err
	}
	if h.Controllers, err = m.Controllers(ctx); err != nil {
		return err
	}
	for _, c := range []struct{ name, what string }{{"memory", "memory limit"}, {"cpu", "CPU limit"}, {"pids", "limit of processes"}} {
		if !slices.Contains(h.Controllers, c.name) {
			h.Warnings = append(h.Warnings, "WARNING: No "+c.what+" support: the cgroup controller "+c.name+" is not delegated to this user")
		}
	}
	return nil
}

type standIn struct{ *local.Client }

func (m standIn) Describe(ctx context.Context, h *moss.HostInfo) error {
	why, err := m.Groups(ctx)
	if err != nil {
		return err
	}
	pause := ""
	if why != "" {
		pause = ", no pause"
	}
	h.NoLimits = local.NoLimits
	h.Warnings = append(h.Warnings,
		"WARNING: Running without systemd's user manager (moss system service): no limits"+pause,
		"WARNING: No memory limit support", "WARNING: No CPU limit support", "WARNING: No limit of processes support")
	return nil
}

// listTimeout is more than the manager of the containers takes to tell of them.
const listTimeout = 10 * time.Second

// main is a running container's main process, 0 where there is none.
func (m standIn) main(id moss.ContainerID) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	all, err := m.List(ctx)
	for _, u := range all {
		if u.Short == id.Short() && !u.Exited {
			return u.PID, err
		}
	}
	return 0, err
}
