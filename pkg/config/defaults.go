package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/moss-containers/moss/pkg/moss"
)

// Defaults are what containers have that do not say otherwise: docker's keys.
type Defaults struct {
	Ulimits         map[string]Ulimit `json:"default-ulimits"`
	ShmSize         Size              `json:"default-shm-size"`      // 0 is 64 MiB
	IpcMode         string            `json:"default-ipc-mode"`      // "" or private, or shareable
	CgroupNS        string            `json:"default-cgroupns-mode"` // "" or private, or host
	CgroupParent    string            `json:"cgroup-parent"`         // a slice of the user's manager
	NoNewPrivileges bool              `json:"no-new-privileges"`
	SeccompProfile  string            `json:"seccomp-profile"` // "" or builtin, unconfined, or a file
	Proxies         Proxies           `json:"proxies"`         // of the daemon itself

	// What docker can be told to do otherwise, and moss cannot: the settings may only say how it is.
	ExecOptions []string `json:"exec-opts"`
	LiveRestore bool     `json:"live-restore"`
}

// Ulimit is a limit of setrlimit(2); -1 is none.
type Ulimit struct {
	Name       string // of docker's, the key again
	Soft, Hard int64
}

// Proxies are the way to registries and collectors, as the variables have it.
type Proxies struct {
	HTTP  string `json:"http-proxy,omitempty"`
	HTTPS string `json:"https-proxy,omitempty"`
	No    string `json:"no-proxy,omitempty"`
}

// Size is a number of bytes, in JSON also as text like 64m.
type Size int64

// UnmarshalJSON reads a number, or a text with a unit.
func (s *Size) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, (*int64)(s))
	}
	n, err := units.RAMInBytes(text)
	*s = Size(n)
	return err
}

func defaultDefaults() Defaults { return Defaults{LiveRestore: true} }

func (d *Defaults) validate() error {
	for _, name := range slices.Sorted(maps.Keys(d.Ulimits)) {
		u := d.Ulimits[name]
		if u.Name != "" && u.Name != name {
			return &Error{Key: "default-ulimits", Err: fmt.Errorf("the limit %q has the name %q", name, u.Name)}
		}
		if _, err := units.ParseUlimit(fmt.Sprintf("%s=%d:%d", name, u.Soft, u.Hard)); err != nil {
			return &Error{Key: "default-ulimits", Err: fmt.Errorf("%s: %w", name, err)}
		}
	}
	if d.ShmSize < 0 {
		return &Error{Key: "default-shm-size", Err: fmt.Errorf("%d is less than 0", d.ShmSize)}
	}
	switch d.IpcMode {
	case "", "private", "shareable":
	default:
		return &Error{Key: "default-ipc-mode", Err: fmt.Errorf("%q is not one of private, shareable", d.IpcMode)}
	}
	switch d.CgroupNS {
	case "", "private", "host":
	default:
		return &Error{Key: "default-cgroupns-mode", Err: fmt.Errorf("%q is not one of private, host", d.CgroupNS)}
	}
	if d.CgroupParent != "" && !moss.IsSlice(d.CgroupParent) {
		return &Error{Key: "cgroup-parent", Err: fmt.Errorf("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\": %q is none", d.CgroupParent)}
	}
	switch p := d.SeccompProfile; {
	case p == "", p == "builtin", p == "unconfined", filepath.IsAbs(p):
	default:
		return &Error{Key: "seccomp-profile", Err: fmt.Errorf("%q is neither builtin nor unconfined nor an absolute path", p)}
	}
	for key, address := range map[string]string{"http-proxy": d.Proxies.HTTP, "https-proxy": d.Proxies.HTTPS} {
		if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" && strings.Contains(address, "://")) {
			return &Error{Key: "proxies", Err: fmt.Errorf("%s is no address of a proxy", key)} // which may have a password
		}
	}
	return d.validateFixed()
}

// validateFixed refuses what cannot be otherwise.
func (d *Defaults) validateFixed() error {
	for _, o := range d.ExecOptions {
		if o != "native.cgroupdriver=systemd" {
			return &Error{Key: "exec-opts", Err: fmt.Errorf("%q: a container is a unit of systemd's, and its cgroup the unit's: there is native.cgroupdriver=systemd only", o)}
		}
	}
	if !d.LiveRestore {
		return &Error{Key: "live-restore", Err: errors.New("containers are units of systemd's and outlive the engine; what stops them with it is: systemctl --user stop moss-rootless")}
	}
	return nil
}

// validateLabels refuses labels of the engine that are none, and two values for
// one, in docker's words.
func (c *Config) validateLabels() error {
	seen := map[string]string{}
	for _, l := range c.Labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return &Error{Key: "labels", Err: fmt.Errorf("bad attribute format: %s", l)}
		}
		if other, ok := seen[key]; ok && other != value {
			return &Error{Key: "labels", Err: fmt.Errorf("conflict labels for %s=%s and %s", key, other, l)}
		}
		seen[key] = value
	}
	return nil
}
