package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// What cgroup v2 has not, docker discards with a word.
func TestDiscarded(t *testing.T) {
	s, _ := newFake()
	for in, want := range map[string]string{
		`{"HostConfig":{"OomKillDisable":true}}`:   "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
		`{"HostConfig":{"OomKillDisable":false}}`:  "",
		`{"HostConfig":{"MemorySwappiness":60}}`:   "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
		`{"HostConfig":{"MemorySwappiness":-1}}`:   "",
		`{"HostConfig":{"MemorySwappiness":null}}`: "",
	} {
		_, warnings, err := s.decodeCreate([]byte(in), newest, "", "")
		if got := strings.Join(warnings, "|"); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestCornersRefused(t *testing.T) {
	s, _ := newFake()
	for in, want := range map[string]string{
		`{"HostConfig":{"MemorySwappiness":101}}`:                                         "valid memory swappiness range is 0-100",
		`{"HostConfig":{"BlkioWeightDevice":[{"Path":"/dev/sda","Weight":5}]}}`:           "invalid weight for device: /dev/sda",
		`{"HostConfig":{"BlkioDeviceReadBps":[{"Path":"sda","Rate":5}]}}`:                 "bad format for device path: sda",
		`{"HostConfig":{"BlkioDeviceWriteBps":[{"Path":"/dev/../etc/passwd","Rate":5}]}}`: "bad format for device path",
		`{"HostConfig":{"BlkioDeviceReadIOps":[{"Path":"/dev/sda","Rate":0}]}}`:           "must be greater than 0",
		`{"HostConfig":{"GroupAdd":["keep-groups","x"]}}`:                                 "is not allowed with any other --group-add options",
		`{"HostConfig":{"SecurityOpt":["label=type:a_t"]}}`:                               "kernel has no SELinux",
		`{"HostConfig":{"SecurityOpt":["label=nested"]}}`:                                 "use label=disable",
		`{"HostConfig":{"SecurityOpt":["label=type:"]}}`:                                  "bad label option",
		`{"HostConfig":{"SecurityOpt":["label"]}}`:                                        "bad label option",
		`{"HostConfig":{"SecurityOpt":["apparmor="]}}`:                                    "invalid --security-opt",
		`{"HostConfig":{"SecurityOpt":["apparmor=mine"]}}`:                                "kernel has no AppArmor",
	} {
		if _, _, err := s.decodeCreate([]byte(in), newest, "", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	s.appArmor = func() bool { return true }
	req, _, err := s.decodeCreate([]byte(`{"HostConfig":{"SecurityOpt":["apparmor=mine"],"GroupAdd":["keep-groups"]}}`), newest, "", "")
	if err != nil || req.Host.AppArmor != "mine" || !req.Host.KeepsGroups() {
		t.Errorf("%q, keeps groups %v: %v", req.Host.AppArmor, req.Host.KeepsGroups(), err)
	}
	s.selinux = func() bool { return true }
	req, _, err = s.decodeCreate([]byte(`{"HostConfig":{"SecurityOpt":["label=type:a_t","label:nested"],"Binds":["/a:/b:ro,Z","v1:/c","/d:/d:z","/e:/e"]}}`), newest, "", "")
	if err != nil || !slices.Equal(req.Host.LabelOpts, []string{"type:a_t", "nested"}) {
		t.Errorf("label options %q: %v", req.Host.LabelOpts, err)
	}
	var relabel []string
	for _, m := range req.Host.Mounts {
		relabel = append(relabel, m.Relabel)
	}
	if !slices.Equal(relabel, []string{"Z", "z", "z", ""}) {
		t.Errorf("mounts are to be relabelled %q", relabel)
	}
	limits := []moss.DeviceLimit{{Device: "/dev/sda", Kind: moss.DeviceReadBps, Value: 5}, {Device: "/dev/sdb", Kind: moss.DeviceReadBps, Value: 6}}
	out := encodeHost(&moss.Container{Host: moss.HostConfig{DeviceLimits: limits}})
	if d := out.BlkioDeviceReadBps; len(d) != 2 || d[1].Path != "/dev/sdb" || d[1].Rate != 6 {
		t.Errorf("told as %v", d)
	}
}
