package bench

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Debian's docker.io cannot be installed beside what else is here: it starts a
// daemon of the machine's. It takes part where its packages are unpacked, not
// installed, below bin/tools/docker (docs/HACKING.md, "Measure it").
var dockerRoot = filepath.Join("tools", "docker")

// docker makes a command line of docker's client; nil before dockerUp, and where there is none.
var docker func(argv ...string) []string

// dockerUp starts a rootless docker of the suite's own, as a unit of the user's,
// and loads the image.
func dockerUp(b *testing.B) func(argv ...string) []string {
	b.Helper()
	if docker != nil {
		return docker
	}
	root := filepath.Join(suite.bin, dockerRoot, "usr")
	script := filepath.Join(root, "share/docker.io/contrib/dockerd-rootless.sh")
	if _, err := os.Stat(script); err != nil {
		return nil
	}
	run := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix+"-docker")
	if err := os.MkdirAll(run, 0o700); err != nil {
		b.Fatal(err)
	}
	path := strings.Join([]string{filepath.Join(root, "bin"), filepath.Join(root, "sbin"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
	sock := filepath.Join(run, "docker.sock")
	suite.must(b, "systemd-run", "--user", "--quiet", "--collect", "--unit", prefix+"-docker", "-p", "Delegate=yes", "-p", "KillMode=mixed",
		"-E", "PATH="+path, "-E", "HOME="+suite.top, "-E", "XDG_RUNTIME_DIR="+run, "-E", "XDG_DATA_HOME="+filepath.Join(suite.top, "docker"),
		"-E", "XDG_CONFIG_HOME="+filepath.Join(suite.top, "config"), "-E", "DBUS_SESSION_BUS_ADDRESS=unix:path="+filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus"),
		script, "-H", "unix://"+sock)
	docker = func(argv ...string) []string {
		return append([]string{filepath.Join(root, "bin", "docker"), "-H", "unix://" + sock}, argv...)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if c, err := new(net.Dialer).DialContext(b.Context(), "unix", sock); err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			b.Fatal(suite.output("journalctl", "--user", "--no-pager", "-n", "40", "-u", prefix+"-docker"))
		}
	}
	suite.must(b, docker("load", "-q", "-i", filepath.Join(suite.top, "busybox.tar"))...)
	return docker
}

// dockerDown ends it with all it has.
func dockerDown() error {
	if docker == nil {
		return nil
	}
	_, err := suite.output("systemctl", "--user", "stop", prefix+"-docker")
	return errors.Join(err, os.RemoveAll(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix+"-docker")))
}
