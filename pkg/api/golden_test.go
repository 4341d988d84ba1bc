package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/system"

	"github.com/moss-containers/moss/pkg/moss"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, got)
	}
}

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// webServer is a running container with something in every part.
func webServer() *moss.Container {
	umask, stop := uint32(0o22), 3
	port := moss.Port{Number: 80, Proto: moss.TCP}
	c := &moss.Container{
		ID: moss.ContainerID(strings.Repeat("ab", 32)), Name: "web", Created: noon.Add(-time.Hour),
		Image: busybox.ID, ImageRef: "busybox", Path: "httpd", Args: []string{"-f", "-h", "/srv/my files"},
		State: moss.StateRunning, Run: moss.Run{PID: 4242, StartedAt: noon.Add(-3 * time.Second), Restarts: 2},
		LogPath: "/d/containers/abab/json.log", Dir: "/d/containers/abab",
		Config: moss.ContainerConfig{
			Hostname: "web", User: "1000", AttachStdout: true, Env: []string{"A=b"}, Cmd: []string{"-f"}, Entrypoint: []string{"httpd"}, Image: "busybox",
			ExposedPorts: []moss.Port{port, {Number: 53, Proto: moss.UDP}}, Labels: map[string]string{"l": "v"}, StopSignal: "INT", StopTimeout: &stop,
			Healthcheck: &moss.Healthcheck{Test: []string{"NONE"}},
		},
		Host: moss.HostConfig{
			Binds: []string{"/srv:/srv:ro"}, NetworkMode: moss.NetworkBridge, PortBindings: []moss.PortBinding{{Port: port, HostPort: 8080}},
			RestartPolicy: moss.RestartPolicy{Mode: moss.RestartOnFailure, MaxRetries: 3}, LogConfig: moss.LogConfig{Driver: "json-file"},
			CgroupNS: "private", IpcMode: "private", Umask: &umask, Annotations: map[string]string{"a": "1"},
			Resources: moss.Resources{Memory: 64 << 20, NanoCPUs: 5e8, PidsLimit: 100}, Ulimits: []moss.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
			Mounts: []moss.MountPoint{
				{Type: moss.MountBind, Source: "/srv", Target: "/srv", ReadOnly: true, Mode: "ro", Propagation: "rprivate", CreateSource: true},
				{Type: moss.MountTmpfs, Target: "/tmp", TmpfsOptions: "size=1m"},
				{Type: moss.MountBind, Source: "/etc/x", Target: "/x", Propagation: "rslave"},
			},
		},
		Network: &moss.Attachment{
			Mode: moss.NetworkBridge, NetNS: "/run/user/1000/moss/netns/abab", Sandbox: "sand",
			Interface: moss.Interface{
				Network: "aaa1", Name: "bridge", Endpoint: "end", MAC: "02:00:00:00:00:01",
				Address: netip.MustParsePrefix("10.88.0.2/16"), Gateway: netip.MustParseAddr("10.88.0.1"),
			},
			Published: []moss.PublishedPort{{Binding: moss.PortBinding{Port: port, HostPort: 8080}}, {Binding: moss.PortBinding{Port: port, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081}}},
		},
	}
	c.Mounts = c.Host.Mounts
	return c
}

func TestGolden(t *testing.T) {
	web := webServer()
	golden(t, "inspect", encodeInspect(web, newest, "overlay"))
	golden(t, "inspect-1.50", encodeInspect(web, v1(50), "overlay"))
	created := &moss.Container{ID: "c", Name: "new", State: moss.StateCreated, Path: "sh", Host: moss.HostConfig{NetworkMode: moss.NetworkNone}}
	golden(t, "inspect-created", encodeInspect(created, newest, "vfs"))
	created.Run.Health = &moss.Health{Status: moss.HealthUnhealthy, FailingStreak: 1, Log: []moss.HealthProbe{
		{Start: noon, End: noon.Add(time.Second), Output: "fine"}, {Start: noon.Add(time.Minute), End: noon.Add(2 * time.Minute), ExitCode: -1, Output: "late"},
	}}
	created.Execs = []moss.ExecID{"e1", "e2"}
	golden(t, "inspect-unhealthy", encodeInspect(created, newest, "vfs"))
	golden(t, "list", []any{encodeSummary(web, newest, noon), encodeSummary(created, newest, noon)})
	golden(t, "list-1.41", []any{encodeSummary(web, v1(41), noon)})
	golden(t, "image", encodeImage(&busybox, "overlay", newest))
	golden(t, "image-1.43", encodeImage(&busybox, "overlay", v1(43)))
	golden(t, "image-1.49", encodeImage(&busybox, "overlay", v1(49)))
	golden(t, "image-1.51", encodeImage(&moss.Image{ID: "sha256:dd"}, "overlay", v1(51)))
	golden(t, "images", encodeImageSummary(&busybox, 2, newest))
	golden(t, "manifests", encodeManifests(&busybox, []string{"c1"}, true))
	golden(t, "df", encodeUsage(fakeDiskUsage, usageTypes, false, newest, noon))
	golden(t, "df-verbose", encodeUsage(fakeDiskUsage, usageTypes, true, newest, noon))
	golden(t, "df-1.52", encodeUsage(fakeDiskUsage, []system.DiskUsageObject{system.ImageObject}, false, v1(52), noon))
	golden(t, "df-1.41", encodeUsage(fakeDiskUsage, usageTypes, false, v1(41), noon))
	golden(t, "exec", encodeExec(moss.Exec{ID: "e", Container: "c", Running: true, PID: 7, Config: moss.ExecConfig{Cmd: []string{"sh", "-c", "x"}, TTY: true, AttachStdin: true, User: "u"}}))
	info := encodeInfo(Options{Version: "0.1.0"}, fakeInfo, noon)
	info.NGoroutines = 0
	golden(t, "info", info)

	o := Options{Version: "0.1.0", GitCommit: "abc", BuildTime: "2024-01-01T00:00:00Z"}
	b, err := json.Marshal(encodeVersion(o, fakeInfo.Host))
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte(`"`+runtime.Version()+`"`), []byte(`"GOVERSION"`))
	b = bytes.ReplaceAll(b, []byte(`"`+runtime.GOARCH+`"`), []byte(`"GOARCH"`))
	golden(t, "version", json.RawMessage(b))
}

func TestStatusText(t *testing.T) {
	ran := moss.Run{StartedAt: noon.Add(-3 * time.Second), FinishedAt: noon.Add(-2 * time.Minute), ExitCode: 137}
	for state, want := range map[moss.State]string{
		moss.StateCreated: "Created", moss.StateRunning: "Up 3 seconds", moss.StatePaused: "Up 3 seconds (Paused)",
		moss.StateRestarting: "Restarting (137) 2 minutes ago", moss.StateRemoving: "Removal In Progress",
		moss.StateExited: "Exited (137) 2 minutes ago", moss.StateDead: "Dead",
	} {
		if got := statusText(&moss.Container{State: state, Run: ran}, noon); got != want {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
	}
	for status, want := range map[moss.HealthStatus]string{
		moss.HealthStarting: "Up 3 seconds (health: starting)", moss.HealthHealthy: "Up 3 seconds (healthy)", moss.HealthUnhealthy: "Up 3 seconds (unhealthy)",
	} {
		ran.Health = &moss.Health{Status: status}
		if got := statusText(&moss.Container{State: moss.StateRunning, Run: ran}, noon); got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
	}
}

// As with docker, info has SELinux where every container gets labels.
func TestInfoSELinux(t *testing.T) {
	for _, o := range []Options{{SELinux: true}, {SELinux: true, SELinuxEnabled: true}} {
		if got := slices.Contains(encodeInfo(o, fakeInfo, noon).SecurityOptions, "name=selinux"); got != o.SELinuxEnabled {
			t.Errorf("%+v: %v", o, got)
		}
	}
}
