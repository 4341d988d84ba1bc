package config

import (
	"strings"
	"testing"
)

func TestDefaultsOfContainers(t *testing.T) {
	for text, want := range map[string]string{
		`{"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}, "core": {"Soft": -1, "Hard": -1}}}`: "",
		`{"default-ulimits": {"nofile": {"Name": "core", "Soft": 1, "Hard": 2}}}`:                                           `has the name "core"`,
		`{"default-ulimits": {"nofile": {"Soft": 3, "Hard": 2}}}`:                                                           "nofile: ulimit soft limit must be less than",
		`{"default-ulimits": {"nosuch": {"Soft": 1, "Hard": 2}}}`:                                                           "nosuch: ",
		`{"default-shm-size": "128M"}`:                                                                                      "",
		`{"default-shm-size": 1048576}`:                                                                                     "",
		`{"default-shm-size": "much"}`:                                                                                      `"default-shm-size"`,
		`{"default-shm-size": -1}`:                                                                                          "less than 0",
		`{"default-ipc-mode": "shareable"}`:                                                                                 "",
		`{"default-ipc-mode": "host"}`:                                                                                      "private, shareable",
		`{"default-cgroupns-mode": "host"}`:                                                                                 "",
		`{"default-cgroupns-mode": "other"}`:                                                                                "private, host",
		`{"cgroup-parent": "mine.slice"}`:                                                                                   "",
		`{"cgroup-parent": "/mine"}`:                                                                                        "valid slice",
		`{"no-new-privileges": true}`:                                                                                       "",
		`{"seccomp-profile": "unconfined"}`:                                                                                 "",
		`{"seccomp-profile": "/etc/profile.json"}`:                                                                          "",
		`{"seccomp-profile": "profile.json"}`:                                                                               "absolute path",
		`{"proxies": {"http-proxy": "http://u:p@proxy.example.com:3128", "no-proxy": "*.example.com"}}`:                     "",
		`{"proxies": {"https-proxy": "http://"}}`:                                                                           "no address of a proxy",
		`{"proxies": {"ftp-proxy": "x"}}`:                                                                                   `setting "proxies": json: unknown field "ftp-proxy"`,
		`{"exec-opts": ["native.cgroupdriver=systemd"], "live-restore": true}`:                                              "",
		`{"exec-opts": ["native.cgroupdriver=cgroupfs"]}`:                                                                   "unit",
		`{"live-restore": false}`:                                                                                           "outlive the engine",
		`{"features": {"buildkit": true}}`:                                                                                  `"features" is not for moss`,
		`{"runtimes": {"x": {"type": "y"}}}`:                                                                                `setting "runtimes": json: unknown field "type"`,
		`{"labels": ["a=b", "c"]}`:                                                                                          "bad attribute format: c",
		`{"labels": ["a=b", "a=c"]}`:                                                                                        "conflict labels for a=b and a=c",
		`{"labels": ["a=b", "a=b"]}`:                                                                                        "",
	} {
		c, _, err := defaults(t).Load(file(t, text), nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if want == "" && strings.Contains(text, "128M") && c.ShmSize != 128<<20 {
			t.Errorf("%s is %d", text, c.ShmSize)
		}
	}
	c, _, err := defaults(t).Load(file(t, ""), map[string]any{"default-shm-size": "1g"})
	if err != nil || c.ShmSize != 1<<30 {
		t.Errorf("as a flag: %d, %v", c.ShmSize, err)
	}
}
