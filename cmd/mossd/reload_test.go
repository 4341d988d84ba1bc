package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/api"
	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/events"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/logs/journal"
	"github.com/moss-containers/moss/pkg/plugins"
	ociruntime "github.com/moss-containers/moss/pkg/runtime"
)

type limited struct{ transfer.Limits }

func (l *limited) Limit(n transfer.Limits) { l.Limits = n }

func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "daemon.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"labels": ["a=b"], "mtu": 1400}`)
	defaults, err := config.Default("", func(k string) string { return map[string]string{"XDG_RUNTIME_DIR": dir, "HOME": dir}[k] })
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := settings{defaults: defaults, path: path, flags: map[string]any{"max-concurrent-uploads": 2}}.read()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var limits limited
	d := &daemon{
		cfg: cfg, level: new(slog.LevelVar), bus: new(events.Bus), images: &limits, steps: newSteps(time.Now()),
		engine: engine.New(engine.Deps{}, engine.Options{}), api: api.New(api.Options{}), plugins: plugins.New(plugins.Options{}), log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	if d.oci, err = ociruntime.New(ociruntime.Config{Binary: "/bin/true", Root: filepath.Join(dir, "runtime"), Bundles: filepath.Join(dir, "bundles")}); err != nil {
		t.Fatal(err)
	}
	if d.regs, err = registry.New(registry.Options{TempDir: filepath.Join(dir, "registries"), EtcDir: dir}); err != nil {
		t.Fatal(err)
	}
	before := len(d.regs.Info().Insecure)
	write(`{"labels": ["c=d"], "mtu": 1500, "debug": true, "insecure-registries": ["registry.example.com"]}`)
	if err := d.reload(); err != nil {
		t.Fatal(err)
	}
	if d.level.Level() != slog.LevelDebug || d.cfg.Labels[0] != "c=d" || d.cfg.MTU != 1400 || d.cfg.MaxUploads != 2 {
		t.Errorf("%+v at level %v", d.cfg.Config, d.level)
	}
	if info := d.regs.Info(); len(info.Insecure) != before+1 {
		t.Errorf("insecure: %v", info.Insecure)
	}
	if limits.Uploads != 2 || limits.Downloads != 3 {
		t.Errorf("limits are %+v", limits)
	}
	if !strings.Contains(log.String(), "keys=mtu") {
		t.Errorf("nothing is told of what takes a restart:\n%s", &log)
	}

	write(`{"labels": ["e=f"], "registry-mirrors": ["nonsense"]}`)
	if err := d.reload(); err == nil || d.cfg.Labels[0] != "c=d" {
		t.Errorf("%v, labels %v", err, d.cfg.Labels)
	}

	// A runtime that is not there changes nothing; one that is can be chosen at once.
	write(`{"labels": ["c=d"], "runtimes": {"mine": {"path": "/nonexistent"}}}`)
	if err := d.reload(); err == nil || len(d.cfg.Runtimes) != 0 {
		t.Errorf("%v, runtimes %v", err, d.cfg.Runtimes)
	}
	write(`{"labels": ["c=d"], "default-runtime": "nosuch", "runtimes": {"mine": {"path": "/bin/true"}}}`)
	if err := d.reload(); err == nil || d.oci.Runtimes()["mine"] != "" {
		t.Errorf("%v, runtimes %v", err, d.oci.Runtimes())
	}
	write(`{"labels": ["c=d"], "default-runtime": "mine", "runtimes": {"mine": {"path": "/bin/true"}}}`)
	if err := d.reload(); err != nil || d.oci.Runtimes()["mine"] == "" || d.cfg.DefaultRuntime != "mine" {
		t.Errorf("%v, runtimes %v, default %s", err, d.oci.Runtimes(), d.cfg.DefaultRuntime)
	}

	w := httptest.NewRecorder()
	d.debug().ServeHTTP(w, httptest.NewRequest("GET", "/v1.50/debug/config", nil))
	var list []setting
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	for _, s := range list {
		from[s.Key] = s.From
	}
	if from["labels"] != path || from["max-concurrent-uploads"] != "flag --max-concurrent-uploads" || from["dns"] != "default" || len(list) != len(config.Keys()) {
		t.Errorf("%v", from)
	}
	for _, p := range []string{"/debug/goroutines", "/debug/boot-times", "/debug/pprof/", "/debug/pprof/heap"} {
		w := httptest.NewRecorder()
		if d.debug().ServeHTTP(w, httptest.NewRequest("GET", p, nil)); w.Code != 200 || w.Body.Len() == 0 {
			t.Errorf("%s: %d", p, w.Code)
		}
	}
}

type sent struct{ bytes.Buffer }

func (s *sent) Send(b []byte) error { _, err := s.Write(b); return err }

func TestJournalHandler(t *testing.T) {
	var to sent
	log := slog.New(&journalHandler{to: &to, level: slog.LevelInfo})
	log.With("component", "x").WithGroup("g").Warn("two\nlines", "container", "web", slog.Group("in", "n", 3))
	log.Debug("not this")
	want := journal.AppendField(nil, "MESSAGE", []byte("two\nlines"))
	want = append(want, "PRIORITY=4\nSYSLOG_IDENTIFIER=mossd\nMOSS_COMPONENT=x\nMOSS_G_CONTAINER=web\nMOSS_G_IN_N=3\n\n"...)
	if to.String() != string(want) {
		t.Errorf("%q", to.String())
	}
}
