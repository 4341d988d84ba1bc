package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// newOffer is what the settings offer to containers.
func newOffer(cfg config.Config, runtimes map[string]string) (engine.Offer, error) {
	o := engine.Offer{Runtimes: runtimes, Runtime: cfg.DefaultRuntime}
	if _, ok := runtimes[cfg.DefaultRuntime]; !ok {
		return o, fmt.Errorf("cannot use the setting \"default-runtime\": specified default runtime '%s' does not exist", cfg.DefaultRuntime)
	}
	o.Defaults = engine.Defaults{
		ShmSize: int64(cfg.ShmSize), IpcMode: cfg.IpcMode, CgroupNS: cfg.CgroupNS, CgroupParent: cfg.CgroupParent, NoNewPrivileges: cfg.NoNewPrivileges,
		SeccompName: cfg.SeccompProfile,
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Ulimits)) {
		o.Defaults.Ulimits = append(o.Defaults.Ulimits, moss.Ulimit{Name: name, Soft: cfg.Ulimits[name].Soft, Hard: cfg.Ulimits[name].Hard})
	}
	switch p := cfg.SeccompProfile; p {
	case "", "builtin":
	case "unconfined":
		o.Defaults.Seccomp = p
	default:
		text, err := os.ReadFile(p)
		if err == nil && (!json.Valid(text) || !strings.HasPrefix(strings.TrimSpace(string(text)), "{")) {
			err = fmt.Errorf("it is not the JSON of a profile")
		}
		if err != nil {
			return o, fmt.Errorf("cannot use the setting \"seccomp-profile\": opening seccomp profile (%s) failed: %w", p, err)
		}
		o.Defaults.Seccomp = string(text)
	}
	return o, nil
}

// useProxies puts the settings' proxies where all that talks HTTP looks for them,
// as docker does.
func useProxies(p config.Proxies, log *slog.Logger) error {
	for name, value := range map[string]string{"HTTP_PROXY": p.HTTP, "HTTPS_PROXY": p.HTTPS, "NO_PROXY": p.No} {
		if value == "" {
			continue
		}
		for _, name := range []string{name, strings.ToLower(name)} {
			if old := os.Getenv(name); old != "" && old != value {
				log.Warn("a proxy of the environment gives way to the one of daemon.json", "variable", name)
			}
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}
