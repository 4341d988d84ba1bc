package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Sources tells where settings come from, by their keys; what is not in it has
// its default.
type Sources map[string]string

// Setting is one that can be given as a flag too.
type Setting struct {
	Key   string // in daemon.json
	Flag  string // without its dashes; docker's, which is the key's singular for lists
	Usage string // what is in backquotes is the value's name, as urfave/cli has it
	Kind  Kind
}

// Kind is how a setting is given as a flag.
type Kind string

// The kinds of flags.
const (
	Text  Kind = "text"
	Count Kind = "count"
	Yes   Kind = "yes"   // or no
	Texts Kind = "texts" // may be repeated
	Pairs Kind = "pairs" // of key=value, may be repeated
)

// Settings are those of daemon.json that have a flag, in the order of the type;
// what is made of parts has none.
func Settings() []Setting {
	var list []Setting
	for _, f := range keys() {
		key := f.Tag.Get("json")
		name := flagNames[key]
		if name == "" {
			name = key
		}
		kind := kindOf(f.Type)
		if kind == "" {
			continue
		}
		list = append(list, Setting{Key: key, Flag: name, Usage: usages[key], Kind: kind})
	}
	return list
}

func kindOf(t reflect.Type) Kind {
	switch t {
	case reflect.TypeFor[string](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[Size]():
		return Text
	case reflect.TypeFor[int]():
		return Count
	case reflect.TypeFor[bool]():
		return Yes
	case reflect.TypeFor[[]string](), reflect.TypeFor[[]netip.Addr]():
		return Texts
	case reflect.TypeFor[map[string]string]():
		return Pairs
	}
	return ""
}

var flagNames = map[string]string{
	"hosts": "host", "labels": "label", "log-opts": "log-opt", "storage-opts": "storage-opt",
	"dns-opts": "dns-opt", "registry-mirrors": "registry-mirror", "insecure-registries": "insecure-registry",
	"authorization-plugins": "authorization-plugin", "exec-opts": "exec-opt",
}

var usages = map[string]string{
	"data-root":                "`DIRECTORY` of images, containers and records",
	"debug":                    "log at level debug",
	"log-level":                "`LEVEL` of the log: debug, info, warn or error",
	"log-format":               "`FORMAT` of the log: text, json or journal",
	"log-driver":               "log `DRIVER` of containers",
	"log-opts":                 "log driver option `KEY=VALUE` of containers",
	"storage-driver":           "storage `DRIVER`: overlay, fuse-overlayfs or vfs",
	"storage-opts":             "storage driver option `KEY=VALUE`",
	"default-runtime":          "OCI runtime `NAME` of containers that choose none",
	"init":                     "give containers that do not say otherwise an init",
	"selinux-enabled":          "give containers SELinux labels, where the kernel has SELinux",
	"fixed-cidr":               "`ADDRESS/LENGTH` of the part of the bridge's network that addresses are from",
	"labels":                   "label `KEY=VALUE` of the engine",
	"bip":                      "first `ADDRESS/LENGTH` of the bridge's network",
	"bridge":                   "none for no default `NETWORK`",
	"icc":                      "containers on the default bridge reach each other",
	"ip-masq":                  "what leaves the default bridge is masqueraded",
	"iptables":                 "set the packet filter of the networks",
	"ipv6":                     "the default bridge has an IPv6 network",
	"bip6":                     "first `ADDRESS/LENGTH` of the bridge's IPv6 network",
	"fixed-cidr-v6":            "`ADDRESS/LENGTH` of the part of it that addresses are from",
	"ip6tables":                "the same as iptables: there is one packet filter",
	"ip-forward":               "networks have a way out; it is always so",
	"userland-proxy":           "a proxy for each published port; there is none",
	"ip":                       "`ADDRESS` where ports are published that name none",
	"mtu":                      "`BYTES` of the largest packet on the bridge",
	"dns":                      "name server `ADDRESS` of containers",
	"dns-search":               "search `DOMAIN` of containers",
	"dns-opts":                 "resolver `OPTION` of containers",
	"host-gateway-ip":          "`ADDRESS` that host-gateway means in --add-host",
	"host-gateway-ips":         "`ADDRESS` that it means, of each family one",
	"moss-tcp-way-out":         "TCP goes out past the network drivers slirp4netns and pasta",
	"moss-network-driver":      "network `DRIVER` of the namespaces: auto, pasta, slirp4netns, gvisor-tap-vsock or none",
	"shutdown-timeout":         "`SECONDS` to write down the ends of containers when all of it stops",
	"idle-timeout":             "`TIME` without anything to do after which the engine ends, until it is needed again: 10m; 0 for never",
	"pidfile":                  "`FILE` with the daemon's process number",
	"registry-mirrors":         "`URL` of a mirror of docker.io",
	"insecure-registries":      "`REGISTRY` whose certificate is not checked",
	"authorization-plugins":    "plugin `NAME` that is asked about every request",
	"max-concurrent-downloads": "`NUMBER` of layers that come at a time",
	"max-concurrent-uploads":   "`NUMBER` of layers that go at a time",
	"max-download-attempts":    "`NUMBER` of times that a layer is tried",
	"hosts":                    "`ADDRESS` to listen at beside systemd's socket: unix:///path or tcp://address:port",
	"tls":                      "speak TLS at tcp addresses",
	"tlsverify":                "speak TLS at tcp addresses, with clients that have a certificate only",
	"tlscacert":                "`FILE` with the authority of the clients' certificates",
	"tlscert":                  "`FILE` with the engine's certificate",
	"tlskey":                   "`FILE` with its key",
	"metrics-addr":             "`ADDRESS:PORT` for Prometheus",
	"default-shm-size":         "`SIZE` of /dev/shm of containers that do not say",
	"default-ipc-mode":         "IPC namespace of containers that do not say, `MODE`: private or shareable",
	"default-cgroupns-mode":    "cgroup namespace of containers that do not say, `MODE`: private or host",
	"cgroup-parent":            "slice of containers that do not say, `NAME.slice`",
	"no-new-privileges":        "containers that do not say gain no privileges by running a program",
	"seccomp-profile":          "seccomp profile of containers that do not say, a `FILE`, builtin or unconfined",
	"exec-opts":                "docker's native.cgroupdriver=systemd `OPTION`, as it is",
	"live-restore":             "containers outlive the engine; it is always so",
}

// Keys are all that daemon.json may have, in the order of the type.
func Keys() []string {
	var list []string
	for _, f := range keys() {
		list = append(list, f.Tag.Get("json"))
	}
	return list
}

// Take has the values of other for some keys.
func (c *Config) Take(other Config, some []string) {
	to, from := reflect.ValueOf(c).Elem(), reflect.ValueOf(other)
	for _, f := range keys() {
		if slices.Contains(some, f.Tag.Get("json")) {
			to.FieldByIndex(f.Index).Set(from.FieldByIndex(f.Index))
		}
	}
}

// keys are the fields that have one.
func keys() []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(reflect.TypeFor[Config]()), func(f reflect.StructField) bool {
		return f.Anonymous || f.Tag.Get("json") == "-"
	})
}

// Load lays the file over the defaults c, and what was given as flags over
// both. A file that is not there has no settings. What is in both is an error,
// as with docker: one of them would be ignored.
func (c Config) Load(path string, flags map[string]any) (Config, Sources, error) {
	text, err := readText(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	inFile, err := split(text)
	if err != nil {
		return c, nil, fmt.Errorf("cannot use the configuration in %s: %w", path, err)
	}
	if inFile == nil {
		inFile = map[string]json.RawMessage{}
	}
	sources := Sources{}
	var both []string
	for key, value := range inFile {
		sources[key] = path
		if given, ok := flags[key]; ok {
			both = append(both, fmt.Sprintf("%s: (from flag: %v, from file: %s)", key, given, value))
		}
	}
	if len(both) > 0 {
		slices.Sort(both)
		return c, nil, fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(both, ", "))
	}
	if err := c.decode(text); err != nil {
		return c, nil, fmt.Errorf("cannot use the configuration in %s: %w", path, err)
	}
	for key := range flags {
		inFile[key] = nil
	}
	if err := conflict(inFile); err != nil {
		return c, nil, err
	}
	if len(flags) == 0 {
		return c, sources, c.conflictMasq(sources)
	}
	text, err = json.Marshal(flags)
	if err != nil {
		return c, nil, err
	}
	if err := c.decode(text); err != nil {
		return c, nil, err
	}
	for _, s := range Settings() {
		if _, ok := flags[s.Key]; ok {
			sources[s.Key] = "flag --" + s.Flag
		}
	}
	return c, sources, c.conflictMasq(sources)
}

// Usable lays some keys of a file over the defaults c, where each of them can be
// used by itself: for what must go on when the file as a whole cannot be used.
func (c Config) Usable(path string, some ...string) Config {
	var found map[string]json.RawMessage
	text, err := readText(path)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return c
	}
	for _, key := range some {
		value, ok := found[key]
		if !ok {
			continue
		}
		if text, err := json.Marshal(map[string]json.RawMessage{key: value}); err == nil {
			_ = c.decode(text) // an error changes nothing
		}
	}
	return c
}

// split tells the settings of a file apart. The error names every key that is
// none, in docker's words.
func split(text []byte) (map[string]json.RawMessage, error) {
	var found map[string]json.RawMessage
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, f := range keys() {
		known[f.Tag.Get("json")] = true
	}
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if instead, ok := answered[key]; ok {
			return nil, fmt.Errorf("the setting %q is not for moss: %s", key, instead)
		}
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	}
	return found, nil
}

// answered are docker's keys for which moss has something else.
var answered = map[string]string{
	"default-gateway":      "the bridge is the only way out that a container has; give a container another with --network, or a route of its own with --cap-add NET_ADMIN",
	"default-gateway-v6":   "the bridge is the only way out that a container has; give a container another with --network, or a route of its own with --cap-add NET_ADMIN",
	"features":             "it builds no images and has one store of them; leave it out",
	"experimental":         "it has nothing that is experimental; leave it out",
	"group":                "the socket is its owner's alone; leave it out",
	"containerd":           "there is no containerd; leave it out",
	"containerd-namespace": "there is no containerd; leave it out",
	"exec-root":            "what is of one boot is in $XDG_RUNTIME_DIR; leave it out",
	"init-path":            "the init that containers get is moss-runtime's own; leave it out",
	"userland-proxy-path":  "one process holds all published ports; leave it out",
	"firewall-backend":     "the packet filter is nftables; leave it out",
	"oom-score-adjust":     "it is the unit's: systemctl --user edit moss.service, OOMScoreAdjust=",
	"raw-logs":             "the log has no colours; leave it out",
	"cdi-spec-dirs":        "moss reads no CDI; give containers the devices with --device",
	"cpu-rt-period":        "cgroup v2 has no real-time limits; give containers --cpus",
	"cpu-rt-runtime":       "cgroup v2 has no real-time limits; give containers --cpus",
	"userns-remap":         "every container is in the user namespace of the user's subordinate ids already (/etc/subuid), where its root is you and nobody else; for ids of its own give the container --userns auto",
}

// Setting is the value that a key has, as JSON.
func (c *Config) Setting(key string) json.RawMessage {
	v := reflect.ValueOf(c).Elem()
	for _, f := range keys() {
		if f.Tag.Get("json") != key {
			continue
		}
		if b, err := json.Marshal(v.FieldByIndex(f.Index).Interface()); err == nil {
			return b
		}
	}
	return json.RawMessage(strconv.Quote(""))
}
