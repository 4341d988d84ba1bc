package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

// createRequest makes the request that flags and arguments amount to.
func createRequest(c *cli.Context) (client.ContainerCreateOptions, error) {
	var o client.ContainerCreateOptions
	cfg, err := containerConfig(c)
	if err != nil {
		return o, err
	}
	host, err := hostConfig(c)
	if err != nil {
		return o, err
	}
	exposed, bindings, err := ports(c)
	if err != nil {
		return o, err
	}
	cfg.ExposedPorts, host.PortBindings = exposed, bindings
	o = client.ContainerCreateOptions{Config: cfg, HostConfig: host, Name: c.String("name")}
	if host.NetworkMode, o.NetworkingConfig, err = networkConfig(c); err != nil {
		return o, err
	}
	o.Platform, err = platform(c)
	return o, err
}

func containerConfig(c *cli.Context) (*container.Config, error) {
	env, err := pairs(c, "env", "env-file", true)
	if err != nil {
		return nil, err
	}
	labels, err := pairs(c, "label", "label-file", false)
	if err != nil {
		return nil, err
	}
	cfg := &container.Config{
		Image: c.Args().First(), Cmd: c.Args().Tail(),
		Hostname: c.String("hostname"), Domainname: c.String("domainname"), User: c.String("user"), WorkingDir: c.String("workdir"),
		Env: env, Labels: toMap(labels), Tty: c.Bool("tty"), OpenStdin: c.Bool("interactive"), StopSignal: c.String("stop-signal"),
	}
	for _, v := range c.StringSlice("volume") {
		if !strings.Contains(v, ":") { // docker's client does so too
			if cfg.Volumes == nil {
				cfg.Volumes = make(map[string]struct{})
			}
			cfg.Volumes[v] = struct{}{}
		}
	}
	if c.IsSet("entrypoint") {
		cfg.Entrypoint = []string{c.String("entrypoint")}
	}
	if c.IsSet("stop-timeout") {
		n := c.Int("stop-timeout")
		cfg.StopTimeout = &n
	}
	if err := keptLabels(c, cfg.Labels); err != nil {
		return nil, err
	}
	if err := healthConfig(c, cfg); err != nil {
		return nil, err
	}
	return cfg, attachConfig(c, cfg)
}

// attachConfig says which streams the client will attach to.
func attachConfig(c *cli.Context, cfg *container.Config) error {
	wanted := c.StringSlice("attach")
	if c.Bool("detach") {
		if len(wanted) > 0 {
			return &status{125, "the flags --attach and --detach exclude each other"}
		}
		return nil
	}
	if len(wanted) == 0 {
		cfg.AttachStdin, cfg.AttachStdout, cfg.AttachStderr = cfg.OpenStdin, true, true
	}
	for _, w := range wanted {
		switch strings.ToLower(w) {
		case "stdin":
			cfg.AttachStdin = true
		case "stdout":
			cfg.AttachStdout = true
		case "stderr":
			cfg.AttachStderr = true
		default:
			return &status{125, fmt.Sprintf("cannot use --attach %q: it is none of stdin, stdout, stderr", w)}
		}
	}
	cfg.StdinOnce = cfg.OpenStdin && cfg.AttachStdin
	return nil
}

func hostConfig(c *cli.Context) (*container.HostConfig, error) {
	h := &container.HostConfig{
		AutoRemove: c.Bool("rm"), Binds: bindsOf(c.StringSlice("volume")), VolumesFrom: c.StringSlice("volumes-from"), Links: c.StringSlice("link"), VolumeDriver: c.String("volume-driver"), Privileged: c.Bool("privileged"), PublishAllPorts: c.Bool("publish-all"),
		ReadonlyRootfs: c.Bool("read-only"), CapAdd: c.StringSlice("cap-add"), CapDrop: c.StringSlice("cap-drop"), ContainerIDFile: c.String("cidfile"),
		IpcMode: container.IpcMode(c.String("ipc")), PidMode: container.PidMode(c.String("pid")),
		UTSMode: container.UTSMode(c.String("uts")), CgroupnsMode: container.CgroupnsMode(c.String("cgroupns")), Runtime: c.String("runtime"),
		DNSOptions: c.StringSlice("dns-option"), DNSSearch: c.StringSlice("dns-search"), ExtraHosts: c.StringSlice("add-host"), GroupAdd: c.StringSlice("group-add"),
		OomScoreAdj: c.Int("oom-score-adj"), Annotations: toMap(c.StringSlice("annotation")), Sysctls: toMap(c.StringSlice("sysctl")),
		LogConfig: container.LogConfig{Type: c.String("log-driver"), Config: toMap(c.StringSlice("log-opt"))},
	}
	for _, s := range c.StringSlice("sysctl") {
		if key, _, ok := strings.Cut(s, "="); !ok || key == "" {
			return nil, fmt.Errorf("cannot use --sysctl %q: want KEY=VALUE", s)
		}
	}
	for _, do := range []func(*cli.Context, *container.HostConfig) error{addDNS, addRestart, addMounts, addSecurity, addResources, addHost, addActivation} {
		if err := do(c, h); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func addDNS(c *cli.Context, h *container.HostConfig) error {
	for _, s := range c.StringSlice("dns") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("cannot use --dns %q: it is no IP address", s)
		}
		h.DNS = append(h.DNS, a)
	}
	return nil
}

func addRestart(c *cli.Context, h *container.HostConfig) error {
	mode, n, counted := strings.Cut(c.String("restart"), ":")
	h.RestartPolicy.Name = container.RestartPolicyMode(mode)
	if counted {
		retries, err := strconv.Atoi(n)
		if err != nil {
			return fmt.Errorf("cannot use --restart %q: %q is no number", c.String("restart"), n)
		}
		h.RestartPolicy.MaximumRetryCount = retries
	}
	return nil
}

// addSecurity reads profile files here, where the user's paths are, as
// docker's client does.
func addSecurity(c *cli.Context, h *container.HostConfig) error {
	for _, o := range c.StringSlice("security-opt") {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			key, value, _ = strings.Cut(o, ":") // as old clients had it
		}
		if key == "seccomp" && value != "unconfined" && value != "builtin" {
			profile, err := seccompProfile(value)
			if err != nil {
				return err
			}
			o = "seccomp=" + profile
		}
		if key == "systempaths" && value == "unconfined" {
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		h.SecurityOpt = append(h.SecurityOpt, o)
	}
	return nil
}

func seccompProfile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the seccomp profile: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return "", fmt.Errorf("cannot read the seccomp profile %s: it is no JSON: %w", path, err)
	}
	return out.String(), nil
}

func addResources(c *cli.Context, h *container.HostConfig) error {
	for name, to := range map[string]*int64{"memory": &h.Memory, "memory-reservation": &h.MemoryReservation, "memory-swap": &h.MemorySwap, "shm-size": &h.ShmSize} {
		s := c.String(name)
		if s == "" {
			continue
		}
		if name == "memory-swap" && s == "-1" {
			*to = -1
			continue
		}
		n, err := units.RAMInBytes(s)
		if err != nil {
			return fmt.Errorf("cannot use --%s: %w", name, err)
		}
		*to = n
	}
	h.CPUPeriod, h.CPUQuota, h.CPUShares = c.Int64("cpu-period"), c.Int64("cpu-quota"), c.Int64("cpu-shares")
	h.CpusetCpus, h.CpusetMems = c.String("cpuset-cpus"), c.String("cpuset-mems")
	if s := c.String("cpus"); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("cannot use --cpus %q: it is no number of cpus", s)
		}
		h.NanoCPUs = int64(n * 1e9)
	}
	if c.IsSet("pids-limit") {
		n := c.Int64("pids-limit")
		h.PidsLimit = &n
	}
	for _, s := range c.StringSlice("ulimit") {
		u, err := units.ParseUlimit(s)
		if err != nil {
			return fmt.Errorf("cannot use --ulimit: %w", err)
		}
		h.Ulimits = append(h.Ulimits, u)
	}
	return nil
}

func ports(c *cli.Context) (network.PortSet, network.PortMap, error) {
	exposed, bindings := make(network.PortSet), make(network.PortMap)
	_, bound, err := nat.ParsePortSpecs(c.StringSlice("publish"))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use --publish: %w", err)
	}
	for port, list := range bound {
		p, err := network.ParsePort(string(port))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --publish: %w", err)
		}
		exposed[p] = struct{}{}
		for _, b := range list {
			var ip netip.Addr
			if b.HostIP != "" {
				if ip, err = netip.ParseAddr(b.HostIP); err != nil {
					return nil, nil, fmt.Errorf("cannot use --publish: %w", err)
				}
			}
			bindings[p] = append(bindings[p], network.PortBinding{HostIP: ip, HostPort: b.HostPort})
		}
	}
	for _, e := range c.StringSlice("expose") {
		span, proto, _ := strings.Cut(e, "/")
		if proto == "" {
			proto = "tcp"
		}
		from, to, err := nat.ParsePortRange(span)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --expose: %w", err)
		}
		for n := from; n <= to; n++ {
			p, err := network.ParsePort(fmt.Sprintf("%d/%s", n, proto))
			if err != nil {
				return nil, nil, fmt.Errorf("cannot use --expose: %w", err)
			}
			exposed[p] = struct{}{}
		}
	}
	return exposed, bindings, nil
}

// pairs reads NAME=VALUE lines of files and then flags. With fromEnv a name
// alone takes the value it has here, or is left out where it has none.
func pairs(c *cli.Context, flag, fileFlag string, fromEnv bool) ([]string, error) {
	var out []string
	add := func(kv string) {
		if fromEnv && !strings.Contains(kv, "=") {
			value, ok := os.LookupEnv(kv)
			if !ok {
				return
			}
			kv += "=" + value
		}
		out = append(out, kv)
	}
	for _, path := range c.StringSlice(fileFlag) {
		lines, err := pairsFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read --%s: %w", fileFlag, err)
		}
		for _, line := range lines {
			add(line)
		}
	}
	for _, kv := range c.StringSlice(flag) {
		if name, _, _ := strings.Cut(kv, "="); name == "" {
			return nil, fmt.Errorf("cannot use --%s %q: it has no name", flag, kv)
		}
		add(kv)
	}
	return out, nil
}

// pairsFile reads the lines of a file of variables, and refuses those that
// docker's client refuses.
func pairsFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	var out []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if !utf8.Valid(lines.Bytes()) {
			return nil, fmt.Errorf("%s: invalid utf8 bytes at line %d: %v", path, n, lines.Bytes())
		}
		line := lines.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		switch {
		case name == "":
			return nil, fmt.Errorf("%s: no variable name on line '%s'", path, line)
		case strings.ContainsFunc(name, unicode.IsSpace):
			return nil, fmt.Errorf("%s: variable '%s' contains whitespaces", path, name)
		}
		out = append(out, line)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func toMap(pairs []string) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, kv := range pairs {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}
