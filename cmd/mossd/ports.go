package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/network"
	"github.com/moss-containers/moss/pkg/version"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

// networkConfig fits the network into what the holder offers.
func networkConfig(cfg config.Config, holder rootless.Info) network.Config {
	n := network.Config{
		NetNS: holder.NetNS, Dir: filepath.Join(cfg.Run, "netns"), MTU: holder.MTU, DNS: holder.DNS,
		Ports: holderPorts{rootless.NewPorts(cfg.Rootless())}, Ways: []netip.Prefix{rootless.TapNetwork6},
	}
	n.IPv6 = cfg.IPv6
	n.Subnet, n.Range = cfg.Subnet()
	n.Subnet6, n.Range6 = cfg.Subnet6()
	for _, p := range cfg.Pools {
		n.Pools = append(n.Pools, network.Pool(p))
	}
	if cfg.MTU != 0 {
		n.MTU = cfg.MTU
	}
	if len(cfg.DNS) > 0 {
		n.DNS, n.Upstreams = cfg.DNS, cfg.DNS
	}
	n.Search, n.Options = cfg.DNSSearch, cfg.DNSOptions
	switch gateways := cfg.HostGateways(); {
	case len(gateways) > 0:
		n.Host = func() netip.Addr { return gateways[0] }
		if len(gateways) > 1 {
			n.Host2 = gateways[1]
		}
	case holder.HostLoopback:
		n.Host = func() netip.Addr { return holder.Gateway }
	case holder.ChildIP.IsValid(): // there is a way out
		n.Host = network.HostAddress
	}
	if w := holder.WayOut; w != nil && cfg.WayOut {
		n.WayOut = network.WayOut{Mark: w.Mark, Link: w.Link, Tap: w.Tap, Except: w.Except}
	}
	n.Own = ownAddresses(cfg)
	n.NoBridge, n.Isolated, n.Plain, n.NoFilter = cfg.Bridge.Name == config.NoBridge, !cfg.ICC, !cfg.Masquerades(), !cfg.IPTables
	n.PublishIP = cfg.IP
	return n
}

// ownAddresses are where the daemon itself listens for TCP; those at any free port are not known yet.
func ownAddresses(cfg config.Config) []netip.AddrPort {
	all := []string{cfg.MetricsAddress}
	for _, s := range cfg.Hosts {
		if h, err := config.ParseHost(s); err == nil && h.Net == "tcp" {
			all = append(all, h.Addr)
		}
	}
	var own []netip.AddrPort
	for _, s := range all {
		host, text, err := net.SplitHostPort(s)
		port, err2 := strconv.ParseUint(text, 10, 16)
		if err != nil || err2 != nil || port == 0 {
			continue
		}
		ips := []string{host}
		switch host {
		case "":
			ips = []string{"0.0.0.0", "::"}
		case "localhost":
			ips = []string{"127.0.0.1", "::1"}
		}
		for _, ip := range ips {
			if a, err := netip.ParseAddr(ip); err == nil {
				own = append(own, netip.AddrPortFrom(a, uint16(port)))
			}
		}
	}
	return own
}

// entry is the program that passes on what comes for containers whose first
// connection starts them (cmd/moss-runtime/internal/forward).
func entry(cfg config.Config, api string) moss.Launch {
	return moss.Launch{
		Args: []string{beside(names.Runtime), "forward", api, filepath.Join(cfg.Rootless(), "netns")},
		Env:  []string{userns.JoinEnv + "=" + cfg.Rootless()},
	}
}

// holderPorts is the holder's port driver as pkg/network wants it.
type holderPorts struct{ *rootless.Ports }

func (p holderPorts) Add(ctx context.Context, port network.Port) (int, error) {
	id, err := p.Ports.Add(ctx, rootless.PortSpec{
		Proto: string(port.Proto), HostIP: port.HostIP, HostPort: port.HostPort, ChildIP: port.ChildIP, ChildPort: port.ChildPort,
	})
	return int(id), classified(err)
}

func (p holderPorts) Remove(ctx context.Context, id int) error {
	return classified(p.Ports.Remove(ctx, rootless.PortID(id)))
}

func (p holderPorts) List(ctx context.Context) (map[int]network.Port, error) {
	list, err := p.Ports.List(ctx)
	if err != nil {
		return nil, classified(err)
	}
	ports := make(map[int]network.Port, len(list))
	for _, l := range list {
		ports[int(l.ID)] = network.Port{
			Proto: moss.Protocol(l.Spec.Proto), HostIP: l.Spec.HostIP, HostPort: l.Spec.HostPort, ChildIP: l.Spec.ChildIP, ChildPort: l.Spec.ChildPort,
		}
	}
	return ports, nil
}

// classified gives the holder's errors their class.
func classified(err error) error {
	for reason, class := range map[error]moss.Class{
		rootless.ErrPortInUse: moss.Conflict, rootless.ErrPortPrivileged: moss.Forbidden, rootless.ErrPortProto: moss.NotImplemented,
		rootless.ErrPortAddress: moss.Invalid, rootless.ErrPortUnknown: moss.NotFound, rootless.ErrNotRunning: moss.Unavailable,
	} {
		if errors.Is(err, reason) {
			return &moss.Error{Class: class, Err: err}
		}
	}
	return err
}

// otherRuntimes are the user's.
func otherRuntimes(cfg config.Config) map[string]moss.RuntimePath {
	all := make(map[string]moss.RuntimePath, len(cfg.Runtimes))
	for name, r := range cfg.Runtimes {
		all[name] = moss.RuntimePath{Path: r.Path, Args: r.Args}
	}
	return all
}

func transferLimits(cfg config.Config) transfer.Limits {
	return transfer.Limits{Downloads: cfg.MaxDownloads, Uploads: cfg.MaxUploads, Attempts: cfg.MaxAttempts}
}

// registryOptions are the user's settings for registries, docker's and those
// of the containers tools.
func registryOptions(cfg config.Config, log *slog.Logger) registry.Options {
	return registry.Options{
		Mirrors: cfg.RegistryMirrors, Insecure: cfg.InsecureRegistries,
		CertDirs: []string{cfg.Certs()}, ConfigDir: filepath.Dir(cfg.Etc),
		TempDir:   filepath.Join(cfg.Run, "registries"),
		UserAgent: "moss/" + version.Version, Log: log,
	}
}

// engineIDs are those of the namespace that this process is in; its 0 is the user.
func engineIDs(uid uint32) (engine.IDs, error) {
	m, err := userns.Current()
	if err != nil {
		return engine.IDs{}, err
	}
	gid, err := userns.ToHost(m.GIDs, 0)
	return engine.IDs{UIDs: fromZero(m.UIDs), GIDs: fromZero(m.GIDs), OwnerUID: uid, OwnerGID: gid}, err
}

func fromZero(in []userns.IDMap) uint32 {
	var out []moss.IDMap
	for _, m := range in {
		out = append(out, moss.IDMap{Container: m.ContainerID, Engine: m.HostID, Size: m.Size})
	}
	return moss.IDsFromZero(out)
}
