package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/moss"
)

// reloadable are the keys that a running daemon takes over; the others are read
// at its start.
var reloadable = []string{
	"debug", "log-level", "labels", "registry-mirrors", "insecure-registries",
	"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "shutdown-timeout", "authorization-plugins",
}

// hearSignals reads the configuration anew at SIGHUP and writes the stacks of
// all goroutines to a file at SIGUSR1, until ctx ends.
func (d *daemon) hearSignals(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-signals:
			if s == unix.SIGUSR1 {
				d.dump()
				continue
			}
			err := d.sd.Reloading()
			if e := d.reload(); e != nil { //nolint:contextcheck // what is asked of plugins has a time of its own
				d.log.Error("the configuration could not be read anew; the one before stays in force", "error", e)
			}
			if err = errors.Join(err, d.sd.Ready(d.status)); err != nil {
				d.log.Error("the manager could not be told of the reload", "error", err)
			}
		}
	}
}

// reload takes over what can be, tells what cannot, and after an error leaves all as it was.
func (d *daemon) reload() error {
	next, err := d.cfg.read()
	if err != nil {
		return err
	}
	now := d.cfg
	var taken, refused []string
	for _, key := range config.Keys() {
		if reflect.DeepEqual(now.Setting(key), next.Setting(key)) {
			continue
		}
		if slices.Contains(reloadable, key) {
			taken = append(taken, key)
		} else {
			refused = append(refused, key)
		}
	}
	merged := now
	merged.take(next, taken)
	if slices.Contains(taken, "authorization-plugins") {
		if err := d.checkAuthorizers(merged.AuthorizationPlugins); err != nil {
			return err
		}
	}
	if merged.Encrypted() {
		if err := d.certs.read(merged.Config); err != nil {
			return err
		}
	}
	if err := d.regs.Configure(merged.RegistryMirrors, merged.InsecureRegistries); err != nil {
		return err
	}
	d.api.Authorize(merged.AuthorizationPlugins)
	d.images.Limit(transferLimits(merged.Config))
	d.level.Set(merged.Level())
	d.engine.Relabel(merged.Labels)
	d.mu.Lock()
	d.cfg = merged
	d.mu.Unlock()
	if len(refused) > 0 {
		d.log.Warn("settings that take a restart of the service", "service", d.cfg.Prefix+".service", "keys", strings.Join(refused, ", "))
	}
	d.log.Info("the configuration was read anew", "changed", strings.Join(taken, ", "))
	d.bus.Publish(moss.Event{Type: moss.DaemonEvent, Action: "reload", ActorID: d.engineID, Attributes: reloadAttributes(merged.Config), Time: time.Now()})
	return nil
}

// checkAuthorizers says whether plugins are there that are to be asked about every request.
func (d *daemon) checkAuthorizers(names []string) error {
	for _, name := range names {
		if err := d.plugins.Check(context.Background(), name, moss.AuthzPlugin); err != nil {
			return fmt.Errorf("cannot use the setting %q: failed to validate authorization plugin: %w", "authorization-plugins", err)
		}
	}
	return nil
}

// take has other's values for keys.
func (s *settings) take(other settings, keys []string) {
	s.Take(other.Config, keys)
	s.from = maps.Clone(s.from)
	for _, key := range keys {
		delete(s.from, key)
		if where, ok := other.from[key]; ok {
			s.from[key] = where
		}
	}
}

// reloadAttributes are those of docker's event.
func reloadAttributes(cfg config.Config) map[string]string {
	attrs := map[string]string{}
	for _, key := range reloadable {
		attrs[key] = strings.Trim(string(cfg.Setting(key)), `"`)
	}
	return attrs
}

// dump writes the stacks beside what is of this boot.
func (d *daemon) dump() {
	path := filepath.Join(d.cfg.Run, "goroutine-stacks-"+time.Now().Format("2006-01-02T150405.000Z0700")+".log")
	if err := os.WriteFile(path, stacks(), 0o600); err != nil {
		d.log.Error("the goroutines' stacks could not be written", "error", err)
		return
	}
	d.log.Info("goroutine stacks written", "file", path)
}
