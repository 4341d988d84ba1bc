package systemdunits

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	for dir, p := range map[string]Params{
		"plain": {BinDir: "/usr/local/bin"},
		"dev": {
			Prefix: "moss-dev", BinDir: "/home/u ser/100%/bin/", Flags: []string{"--log-level", "debug"},
			Env: map[string]string{"XDG_DATA_HOME": "/tmp/x y/data", "A": `q"b\c%d`},
		},
	} {
		units, err := Render(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(units) != 4 {
			t.Errorf("%s: %d units", dir, len(units))
		}
		for name, got := range units {
			path := filepath.Join("testdata", dir, name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; got:\n%s", path, got)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	for _, p := range []Params{
		{BinDir: "bin"},
		{BinDir: `/a"b`},
		{BinDir: "/b", Prefix: "a b"},
		{BinDir: "/b", Prefix: "-a"},
		{BinDir: "/b", Env: map[string]string{"a b": ""}},
		{BinDir: "/b", Env: map[string]string{"A": "x\ny"}},
		{BinDir: "/b", Flags: []string{"x\ny"}},
	} {
		if u, err := Render(p); err == nil {
			t.Errorf("%+v was taken: %v", p, u)
		}
	}
}

// systemd itself finds nothing wrong, but for the one setting that is new since 254.
func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skipf("systemd is not installed: %v", err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "b in %")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "mossd"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	units, err := Render(Params{Prefix: "moss-verify", BinDir: bin, Env: map[string]string{"A": `a "b" %`}, Flags: []string{"--x=a b"}})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--user", "--man=no", "verify"}
	for name, text := range units {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "'FileDescriptorStorePreserve'") && strings.TrimSpace(line) != "" {
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil {
		t.Errorf("systemd-analyze: %v", err)
	}
}
