// Package config is the one configuration of the daemon and of the holder of
// its namespaces: defaults, the file daemon.json with docker's keys, and flags
// over it. Where everything lies follows from the XDG base directories.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/names"
)

// DefaultPrefix begins the names of the units and directories of a user's
// engine; a second engine of the same user has another.
const DefaultPrefix = "moss"

// Config is all that can be set. The JSON names are docker's where docker has
// the setting.
type Config struct {
	Prefix string `json:"-"`
	// Run, Data and Etc are the directories of this engine below the XDG ones;
	// they hold what is gone after the boot, what stays, and what the user sets.
	Run string `json:"-"`
	Etc string `json:"-"`
	Lib string `json:"-"` // of the user, for all programs; "" where there is none

	Data           string             `json:"data-root"`
	Debug          bool               `json:"debug"`          // the same as log-level debug
	LogLevel       string             `json:"log-level"`      // debug, info, warn, error
	LogFormat      string             `json:"log-format"`     // text, json or journal
	LogDriver      string             `json:"log-driver"`     // of containers
	LogOptions     map[string]string  `json:"log-opts"`       // of containers
	StorageDriver  string             `json:"storage-driver"` // "", overlay, fuse-overlayfs or vfs
	DefaultRuntime string             `json:"default-runtime"`
	Runtimes       map[string]Runtime `json:"runtimes"`        // besides moss-runtime, and crun and runc where they are installed
	Init           bool               `json:"init"`            // of containers that do not say
	SELinux        bool               `json:"selinux-enabled"` // every container gets SELinux labels
	Labels         []string           `json:"labels"`
	BIP            netip.Prefix       `json:"bip"`                   // first address of the bridge's network
	FixedCIDR      netip.Prefix       `json:"fixed-cidr"`            // the part of bip that addresses are given from
	Pools          []AddressPool      `json:"default-address-pools"` // what subnets of networks that name none are cut from: base and size
	MTU            int                `json:"mtu"`                   // of the bridge; 0 means the network driver's
	DNS            []netip.Addr       `json:"dns"`
	DNSSearch      []string           `json:"dns-search"`
	DNSOptions     []string           `json:"dns-opts"`
	HostGatewayIP  netip.Addr         `json:"host-gateway-ip"`  // what "host-gateway" means; else an address of the host
	HostGatewayIPs []netip.Addr       `json:"host-gateway-ips"` // docker's newer key for the same: of each family one
	// ShutdownTimeout is how many seconds the daemon takes to write down the ends of containers that
	// went down with the holder; negative is for ever.
	ShutdownTimeout int `json:"shutdown-timeout"`
	// AuthorizationPlugins are asked about every request, in this order.
	AuthorizationPlugins []string `json:"authorization-plugins"`
	// NetworkDriver of the holder: auto, pasta, slirp4netns, gvisor-tap-vsock or none.
	NetworkDriver string `json:"moss-network-driver"`
	// WayOut: what containers connect to by TCP is connected to by the holder, past the network driver,
	// where that is slirp4netns or pasta and the kernel can.
	WayOut bool `json:"moss-tcp-way-out"`
	// IdleTimeout is how long the engine has nothing to do before it ends, until it is needed again; "" or 0 for never.
	IdleTimeout string `json:"idle-timeout"`
	// PIDFile has the daemon's process number while it runs; "" for none.
	PIDFile string `json:"pidfile"`

	Bridge
	Images
	Listen
	Defaults
}

// AddressPool is a range that subnets of a size are cut from.
type AddressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"` // of a subnet, in bits
}

// Error is a setting that makes no sense, with the key that has it.
type Error struct {
	Key string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot use the setting %q: %v", e.Key, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Default returns the defaults for a prefix, by the XDG variables that getenv
// tells (XDG Base Directory Specification).
func Default(prefix string, getenv func(string) string) (Config, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`).MatchString(prefix) {
		return Config{}, &Error{Key: "prefix", Err: fmt.Errorf("%q is not made of lower-case letters, digits and single dashes", prefix)}
	}
	run := getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return Config{}, errors.New("cannot find the run-time directory: XDG_RUNTIME_DIR is not set; log in through systemd-logind, or run: loginctl enable-linger")
	}
	base := func(name, fallback string) (string, error) {
		if dir := getenv(name); filepath.IsAbs(dir) {
			return filepath.Join(dir, prefix), nil
		}
		home := getenv("HOME")
		if home == "" {
			return "", fmt.Errorf("cannot find the home directory: neither %s nor HOME is set", name)
		}
		return filepath.Join(home, fallback, prefix), nil
	}
	data, err := base("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return Config{}, err
	}
	etc, err := base("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Config{}, err
	}
	return Config{
		Prefix: prefix, Run: filepath.Join(run, prefix), Data: data, Etc: etc, Lib: filepath.Join(getenv("HOME"), ".local/lib"),
		ShutdownTimeout: 15, LogLevel: "info", LogFormat: "text", LogDriver: "json-file", DefaultRuntime: "moss-runtime",
		NetworkDriver: names.DriverAuto, WayOut: true,
		Bridge: defaultBridge(), Images: defaultImages(), Defaults: defaultDefaults(),
	}, nil
}

// PluginDirs are where plugins are looked for: their sockets, and the files that
// say where they listen. Docker's places are the user's own, those of the XDG
// base directories: a plugin of root's daemon is none of this one's.
func (c *Config) PluginDirs() (sockets, specs []string) {
	sockets = []string{filepath.Join(c.Run, "plugins"), filepath.Join(filepath.Dir(c.Run), "docker", "plugins")}
	specs = []string{filepath.Join(c.Etc, "plugins"), filepath.Join(filepath.Dir(c.Etc), "docker", "plugins")}
	if filepath.IsAbs(c.Lib) {
		specs = append(specs, filepath.Join(c.Lib, "docker", "plugins"))
	}
	return sockets, specs
}

// Subnet is the network of the default bridge, and the part that addresses are given from; the zero
// Prefix where nothing is set.
func (c *Config) Subnet() (subnet, within netip.Prefix) {
	if c.BIP.IsValid() {
		return c.BIP.Masked(), c.FixedCIDR
	}
	return c.FixedCIDR, netip.Prefix{}
}

// File returns where the configuration file is looked for.
func (c *Config) File() string { return filepath.Join(c.Etc, "daemon.json") }

// ReadFile lays the file's settings over c; a file that is not there changes
// nothing. Errors name an unknown key.
func (c *Config) ReadFile(path string) error {
	text, err := readText(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	if err := c.decode(text); err != nil {
		return fmt.Errorf("cannot use the configuration in %s: %w", path, err)
	}
	return nil
}

// readText reads a file without the mark that some editors begin it with.
func readText(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

func (c *Config) decode(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	settings, err := split(text)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // json ignores the case of letters, split does not
	read := *c
	if err := d.Decode(&read); err != nil {
		return blame(settings, err)
	}
	if err := read.Validate(); err != nil {
		return err
	}
	*c = read
	return nil
}

// blame says which setting it is that cannot be decoded: a type's own error knows
// the value only.
func blame(settings map[string]json.RawMessage, err error) error {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		text, e := json.Marshal(map[string]json.RawMessage{key: settings[key]})
		if e != nil {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if e := d.Decode(new(Config)); e != nil {
			return &Error{Key: key, Err: e}
		}
	}
	return err
}

// Validate checks the settings against each other and against what moss can do.
func (c *Config) Validate() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return &Error{Key: "log-level", Err: fmt.Errorf("%q is not one of debug, info, warn, error", c.LogLevel)}
	}
	switch c.LogFormat {
	case "text", "json", "journal":
	default:
		return &Error{Key: "log-format", Err: fmt.Errorf("%q is not one of text, json, journal", c.LogFormat)}
	}
	if !filepath.IsAbs(c.Data) {
		return &Error{Key: "data-root", Err: fmt.Errorf("%q is not an absolute path", c.Data)}
	}
	if c.PIDFile != "" && !filepath.IsAbs(c.PIDFile) {
		return &Error{Key: "pidfile", Err: fmt.Errorf("%q is not an absolute path", c.PIDFile)}
	}
	switch c.StorageDriver {
	case "", "overlay", "fuse-overlayfs", "vfs":
	case "overlay2":
		c.StorageDriver = "overlay"
	default:
		return &Error{Key: "storage-driver", Err: fmt.Errorf("%q is not one of overlay, fuse-overlayfs, vfs", c.StorageDriver)}
	}
	if !slices.Contains(names.Drivers(), c.NetworkDriver) {
		return &Error{Key: "moss-network-driver", Err: fmt.Errorf("%q is not one of %s", c.NetworkDriver, strings.Join(names.Drivers(), ", "))}
	}
	if c.BIP.IsValid() && (!c.BIP.Addr().Is4() || c.BIP.Bits() > 28 || c.BIP.Bits() < 8 || c.BIP.Addr() != c.BIP.Masked().Addr().Next()) {
		return &Error{Key: "bip", Err: fmt.Errorf("%s is not the first IPv4 address of a network for the bridge, like 172.30.0.1/16", c.BIP)}
	}
	if f := c.FixedCIDR; f.IsValid() && c.BIP.IsValid() && (!c.BIP.Contains(f.Addr()) || f.Bits() < c.BIP.Bits()) {
		return &Error{Key: "fixed-cidr", Err: fmt.Errorf("%s is not within bip %s", f, c.BIP)}
	} else if f.IsValid() && !c.BIP.IsValid() && (!f.Addr().Is4() || f.Bits() > 28 || f.Bits() < 8 || f != f.Masked()) {
		return &Error{Key: "fixed-cidr", Err: fmt.Errorf("%s is no IPv4 network for the bridge, like 172.30.0.0/16", f)}
	}
	for i, p := range c.Pools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen()-2 {
			return &Error{Key: "default-address-pools", Err: fmt.Errorf("size %d does not fit in base %s", p.Size, p.Base)}
		}
		for _, q := range c.Pools[:i] {
			if p.Base.Overlaps(q.Base) {
				return &Error{Key: "default-address-pools", Err: fmt.Errorf("%s and %s overlap", q.Base, p.Base)}
			}
		}
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		return &Error{Key: "mtu", Err: fmt.Errorf("%d is not between 576 and 65535", c.MTU)}
	}
	if err := c.validateDNS(); err != nil {
		return err
	}
	if err := c.validateIdle(); err != nil {
		return err
	}
	if err := c.Bridge.validate(); err != nil {
		return err
	}
	if err := c.validateRuntimes(); err != nil {
		return err
	}
	if err := c.Images.validate(); err != nil {
		return err
	}
	if err := c.Defaults.validate(); err != nil {
		return err
	}
	if err := c.validateLabels(); err != nil {
		return err
	}
	return c.Listen.validate()
}

// Level returns the log level.
func (c *Config) Level() slog.Level {
	var level slog.Level
	if c.Debug {
		return slog.LevelDebug
	}
	_ = level.UnmarshalText([]byte(c.LogLevel)) // Validate has read it
	return level
}

// The files and directories of an engine.

// Socket is where the API listens when no socket comes from systemd.
func (c *Config) Socket() string { return filepath.Join(c.Run, "moss.sock") }

// Rootless is the state directory of the holder of the namespaces.
func (c *Config) Rootless() string { return filepath.Join(c.Run, "rootless") }

// Entries has a socket for each container that gets its listening sockets passed.
func (c *Config) Entries() string { return filepath.Join(c.Run, "entries") }

// Containers holds a directory for each container.
func (c *Config) Containers() string { return filepath.Join(c.Data, "containers") }

// Certs has a directory for each registry with certificates of its own.
func (c *Config) Certs() string { return filepath.Join(c.Etc, "certs.d") }

// Records is the durable database, Volatile the one of this boot.
func (c *Config) Records() string { return filepath.Join(c.Data, "moss.db") }

// Volatile is the database of this boot.
func (c *Config) Volatile() string { return filepath.Join(c.Run, "run.db") }
