package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

func TestRunRefusesWithOneSentence(t *testing.T) {
	dir := t.TempDir()
	env := func(k string) string {
		return map[string]string{"XDG_RUNTIME_DIR": dir, "HOME": dir, "XDG_CONFIG_HOME": dir}[k]
	}
	if err := os.MkdirAll(filepath.Join(dir, "moss"), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"no-such-key": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	settled := filepath.Join(dir, "settled.json")
	if err := os.WriteFile(settled, []byte(`{"mtu": 1400}`), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := "moss.service" // where it belongs, for a user
	if os.Getuid() == 0 {
		outside = "root"
	}
	for args, want := range map[string]string{
		"":                                    outside,
		"extra":                               "takes no argument",
		"--prefix A/B":                        "prefix",
		"--log-level loud":                    "log-level",
		"--validate --mtu 3":                  `"mtu"`,
		"--log-opt x":                         "not like key=value",
		"--mtu 1500 --config-file " + settled: "both as a flag and in the configuration file: mtu",
		"--validate --config-file " + broken:  "no-such-key",
		"--host tcp://0.0.0.0:2375":           "tlsverify",
		"--config-file " + broken:             "no-such-key",
		"--config-file " + dir + "/x":         "no such file",
		"purge /nonexistent":                  "uninstall --purge",
	} {
		err := run(t.Context(), append([]string{"mossd"}, strings.Fields(args)...), env)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("mossd %s: %v, want a sentence with %q", args, err, want)
		}
	}
}

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	env := func(k string) string { return map[string]string{"XDG_RUNTIME_DIR": dir, "HOME": dir}[k] }
	args := []string{"mossd", "--validate", "--mtu", "1400", "--label", "a=b", "--log-opt", "max-size=1m", "--debug", "--dns", "192.0.2.1"}
	if err := run(t.Context(), args, env); err != nil {
		t.Error(err)
	}
}

func TestRootWithoutRuntimeDirectory(t *testing.T) {
	want := "XDG_RUNTIME_DIR is not set"
	if errors.Is(userns.CheckNotRoot(), userns.ErrRoot) {
		want = userns.ErrRoot.Error()
	}
	home := t.TempDir()
	env := func(k string) string { return map[string]string{"HOME": home}[k] }
	if err := run(t.Context(), []string{"mossd"}, env); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("mossd: %v, want %q", err, want)
	}
}

func TestHolderArgs(t *testing.T) {
	cfg := config.Config{Run: "/r/moss", NetworkDriver: "pasta", LogLevel: "debug"}
	if got := strings.Join(holderArgs(cfg), " "); got != "-state-dir /r/moss/rootless -net pasta -debug" {
		t.Error(got)
	}
	cfg.WayOut = true
	if got := strings.Join(holderArgs(cfg), " "); got != "-state-dir /r/moss/rootless -net pasta -tcp-way-out -debug" {
		t.Error(got)
	}
}

func TestPortErrorsHaveTheirClass(t *testing.T) {
	for reason, class := range map[error]moss.Class{
		rootless.ErrPortInUse: moss.Conflict, rootless.ErrPortPrivileged: moss.Forbidden, rootless.ErrPortAddress: moss.Invalid,
	} {
		if got := moss.ClassOf(classified(&rootless.PortError{Op: "publish", Port: "80", Reason: reason})); got != class {
			t.Errorf("%v: %s, want %s", reason, got, class)
		}
	}
	if classified(nil) != nil {
		t.Error("no error became one")
	}
}

func TestOSRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(path, []byte("NAME=\"Debian\"\nVERSION_ID='12'\n# x\nPRETTY_NAME=Plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := osRelease(path)
	if got["NAME"] != "Debian" || got["VERSION_ID"] != "12" || got["PRETTY_NAME"] != "Plain" {
		t.Error(got)
	}
}

func TestANewHolderIsSeenOnce(t *testing.T) {
	cfg := config.Config{Run: t.TempDir()}
	if err := os.Mkdir(cfg.Rootless(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		fresh, remember, err := newHolder(cfg)
		if err != nil || fresh != want {
			t.Fatalf("fresh %v, want %v, %v", fresh, want, err)
		}
		if err := remember(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRealPath(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "disk", "again": "link", "lost": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(top, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"disk": "disk", "link": "disk", "again/a/b": "disk/a/b", "a": "a", ".": "."} {
		if got, err := realPath(filepath.Join(top, path)); err != nil || got != filepath.Join(top, want) {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
	if got, err := realPath(filepath.Join(top, "lost")); err == nil || !strings.HasSuffix(err.Error(), "/lost is a link to what is not there") {
		t.Errorf("%s, %v", got, err)
	}
}
