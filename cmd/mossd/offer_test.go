package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
)

func TestSeccompProfileOfTheSettings(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good.json": `{"defaultAction": "SCMP_ACT_ALLOW"}`, "bad.json": "[]"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Config{DefaultRuntime: "r"}
	for name, want := range map[string]string{"good.json": "", "bad.json": "not the JSON of a profile", "none.json": "no such file"} {
		cfg.SeccompProfile = filepath.Join(dir, name)
		o, err := newOffer(cfg, map[string]string{"r": "/r"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err == nil && (o.Defaults.SeccompName != cfg.SeccompProfile || !strings.Contains(o.Defaults.Seccomp, "SCMP_ACT_ALLOW")) {
			t.Errorf("%s: %+v", name, o.Defaults)
		}
	}
}

func TestProxies(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("https_proxy", "http://other.example.com:1")
	var log bytes.Buffer
	if err := useProxies(config.Proxies{HTTPS: "http://me:secret@proxy.example.com:3128"}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv("HTTPS_PROXY"); !strings.Contains(got, "secret") || os.Getenv("https_proxy") != got || os.Getenv("HTTP_PROXY") != "" {
		t.Errorf("HTTPS_PROXY=%s", got)
	}
	if !strings.Contains(log.String(), "variable=https_proxy") || strings.Contains(log.String(), "secret") {
		t.Errorf("the log has: %s", &log)
	}
	if got := proxy("HTTPS_PROXY"); got != "http://xxxxx:xxxxx@proxy.example.com:3128" {
		t.Errorf("info has %s", got)
	}
}
