package main

import (
	"cmp"
	"context"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/network"
	"github.com/moss-containers/moss/rootless"
)

// machine tells what info shows of the machine and of moss's place in it.
type machine struct {
	uid    int
	units  manager
	holder rootless.Info
	nets   network.Config
	stores *stores

	mu       sync.Mutex
	warnings []string
}

// warn adds to what info warns of.
func (m *machine) warn(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.warnings = append(m.warnings, text)
}

func (m *machine) Storage() moss.StorageInfo { return m.stores.info() }

// GoingDown says whether the holder is being stopped or restarted.
func (m *machine) GoingDown(ctx context.Context) bool {
	return m.units.GoingDown(ctx)
}

func (m *machine) Host(ctx context.Context) (moss.HostInfo, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return moss.HostInfo{}, moss.Wrap(err, "read the kernel's version", "")
	}
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return moss.HostInfo{}, moss.Wrap(err, "read the size of the memory", "")
	}
	release := osRelease("/etc/os-release")
	h := moss.HostInfo{
		KernelVersion: unix.ByteSliceToString(uts.Release[:]), Architecture: unix.ByteSliceToString(uts.Machine[:]),
		Hostname: unix.ByteSliceToString(uts.Nodename[:]), OperatingSystem: release["PRETTY_NAME"], OSVersion: release["VERSION_ID"],
		CPUs: runtime.NumCPU(), Memory: int64(sys.Totalram) * int64(sys.Unit), UID: m.uid,
	}
	describeNetworks(&h, m.holder, m.nets)
	h.HTTPProxy, h.HTTPSProxy, h.NoProxy = proxy("HTTP_PROXY"), proxy("HTTPS_PROXY"), cmp.Or(os.Getenv("NO_PROXY"), os.Getenv("no_proxy"))
	if err := m.units.Describe(ctx, &h); err != nil {
		return h, err
	}
	m.mu.Lock()
	h.Warnings = append(h.Warnings, m.warnings...)
	m.mu.Unlock()
	return h, nil
}

// describeNetworks tells what is in force for networks, which settings may have
// otherwise than the holder's driver.
func describeNetworks(h *moss.HostInfo, holder rootless.Info, nets network.Config) {
	h.NetworkDriver, h.NetworkWhy, h.NetworkBetter, h.NetworkIPv6 = holder.NetworkDriver, holder.Why, holder.Better, holder.IPv6
	h.NetworkMTU = nets.MTU
	for _, p := range network.InForce(nets.Pools) {
		h.NetworkPools = append(h.NetworkPools, moss.AddressPool(p))
	}
	if !nets.NoFilter {
		h.Filter = "nftables"
	}
}

// proxy is one of the environment's, without the password, in docker's way.
func proxy(name string) string {
	address := cmp.Or(os.Getenv(name), os.Getenv(strings.ToLower(name)))
	if u, err := url.Parse(address); err == nil && u.User != nil {
		u.User = url.UserPassword("xxxxx", "xxxxx")
		return u.String()
	}
	return address
}

// osRelease reads os-release(5); an unreadable one is empty.
func osRelease(path string) map[string]string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseRelease(string(text))
}

// parseRelease reads assignments as a shell does, without its expansions; the values are for terminals.
func parseRelease(text string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			values[k] = moss.Shown(unquoted(v))
		}
	}
	return values
}

// unquoted is a value of os-release(5).
func unquoted(v string) string {
	if single, ok := strings.CutPrefix(v, "'"); ok {
		return strings.TrimSuffix(single, "'")
	}
	v, double := strings.CutPrefix(v, `"`)
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		switch {
		case double && v[i] == '"':
			return b.String()
		case v[i] == '\\' && i+1 < len(v) && (!double || strings.IndexByte("\"\\`$", v[i+1]) >= 0):
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
