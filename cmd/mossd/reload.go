package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// reloadable are the keys that a running daemon takes over; the others are read
// at its start.
var reloadable = append([]string{
	"debug", "log-level", "labels", "registry-mirrors", "insecure-registries",
	"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "shutdown-timeout", "authorization-plugins",
}, offered...)

// offered are those that are for containers.
var offered = []string{"default-runtime", "runtimes", "default-shm-size", "default-ipc-mode", "default-cgroupns-mode"}

// hearSignals reads the configuration anew at SIGHUP, or when it is asked to, and
// writes the stacks of all goroutines to a file at SIGUSR1, until ctx ends.
func (d *daemon) hearSignals(ctx context.Context, signals <-chan os.Signal) error {
	defer close(d.deaf)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-signals:
			if s == unix.SIGUSR1 {
				d.dump()
				continue
			}
			_ = d.readAnew() //nolint:contextcheck // what is asked of plugins has a time of its own; it is logged
		case answer := <-d.reloads:
			answer <- d.readAnew() //nolint:contextcheck // as above
		}
	}
}

// readAnew reloads, and tells the log and the manager how that went.
func (d *daemon) readAnew() error {
	err := d.sd.Reloading()
	status := d.status
	failed := d.reload()
	if failed != nil {
		d.log.Error("the configuration could not be read anew; the one before stays in force", "error", failed)
		status += "; the configuration could not be read anew: " + failed.Error()
	}
	if err = errors.Join(err, d.sd.Ready(status)); err != nil {
		d.log.Error("the manager could not be told of the reload", "error", err)
	}
	return failed
}

// serveReload answers when the configuration has been read anew, or why it could not be.
func (d *daemon) serveReload(w http.ResponseWriter, r *http.Request) {
	answer := make(chan error, 1)
	var err error
	select {
	case d.reloads <- answer:
		err = <-answer
	case <-d.deaf:
		err = errors.New("the engine is being stopped")
	case <-r.Context().Done():
		return
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, err.Error()) // a lost client wants nothing more
	}
}

// askReload makes the daemon at a socket read its configuration anew.
func askReload(ctx context.Context, socket string) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://moss/debug/reload", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the engine at %s: %w", socket, errors.Unwrap(err))
	}
	defer res.Body.Close()
	why, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the configuration could not be read anew; the one before stays in force: %s", why)
	}
	return nil
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
	offer, err := d.reoffer(now.Config, merged.Config, taken)
	if err != nil {
		return err
	}
	if err := d.regs.Configure(merged.RegistryMirrors, merged.InsecureRegistries); err != nil {
		if offer != nil {
			err = errors.Join(err, d.oci.SetOthers(otherRuntimes(now.Config)))
		}
		return err
	}
	d.api.Authorize(merged.AuthorizationPlugins)
	d.images.Limit(transferLimits(merged.Config))
	d.level.Set(merged.Level())
	d.engine.Relabel(merged.Labels)
	if offer != nil {
		d.engine.SetOffer(*offer)
	}
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

// reoffer is what is offered to containers after a reload; nil is as before.
func (d *daemon) reoffer(now, next config.Config, taken []string) (*engine.Offer, error) {
	if !slices.ContainsFunc(taken, func(key string) bool { return slices.Contains(offered, key) }) {
		return nil, nil
	}
	if err := d.oci.SetOthers(otherRuntimes(next)); err != nil {
		return nil, err
	}
	offer, err := newOffer(next, d.oci.Runtimes())
	if err != nil {
		return nil, errors.Join(err, d.oci.SetOthers(otherRuntimes(now)))
	}
	return &offer, nil
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
