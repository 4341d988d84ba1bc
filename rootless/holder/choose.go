package holder

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/creack/pty"

	"github.com/moss-containers/moss/pkg/names"
)

// pastaSince is the first pasta (a date, it has no other version) preferred to
// slirp4netns: those before are slower outwards and lack --host-lo-to-ns-lo.
var pastaSince = time.Date(2024, 10, 30, 0, 0, 0, 0, time.UTC)

// machine is what the choice of a network driver depends on.
type machine struct {
	Pasta        string // path, empty if there is none
	PastaVersion string // first line of pasta --version
	Slirp        string // path, empty if there is none
	Routed       bool   // an IPv4 default route is there; pasta does not start without
	Routed6      bool   // an IPv6 one
}

type choice struct {
	Driver string
	Binary string // path, empty for drivers in process
	Why    string
}

func probe(ctx context.Context) machine {
	var m machine
	if p, err := exec.LookPath("pasta"); err == nil {
		m.Pasta = p
		m.PastaVersion = pastaVersion(ctx, p)
	}
	if p, err := exec.LookPath("slirp4netns"); err == nil {
		m.Slirp = p
	}
	if f, err := os.Open("/proc/net/route"); err == nil {
		m.Routed = hasDefaultRoute(f)
		f.Close()
	}
	if f, err := os.Open("/proc/net/ipv6_route"); err == nil {
		m.Routed6 = hasDefaultRoute6(f)
		f.Close()
	}
	return m
}

// pastaVersion is what a pasta says of itself; one that cannot say is one we do not
// prefer. Those of 2025, Debian 13's among them, say it to terminals only: elsewhere
// they end without a flush.
func pastaVersion(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	switch {
	case err != nil:
		return ""
	case len(out) > 0:
		return firstLine(out)
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	terminal, err := pty.Start(cmd)
	if err != nil {
		return ""
	}
	defer terminal.Close()
	out, _ = io.ReadAll(terminal) // ends with an error, as a terminal does that nobody has any more
	if cmd.Wait() != nil {
		return ""
	}
	return firstLine(out)
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSuffix(line, "\r")
}

// hasDefaultRoute reads /proc/net/route, see proc(5).
func hasDefaultRoute(r io.Reader) bool {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …
		f := strings.Fields(sc.Text())
		if len(f) >= 8 && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	return false
}

// choose picks the network driver: the wanted one, or the best the machine has.
func choose(want string, ipv6 bool, m machine) (choice, error) {
	switch want {
	case names.DriverPasta:
		if m.Pasta == "" {
			return choice{}, missing(want, "passt")
		}
		return choice{want, m.Pasta, "configured"}, nil
	case names.DriverSlirp:
		if m.Slirp == "" {
			return choice{}, missing(want, "slirp4netns")
		}
		return choice{want, m.Slirp, "configured"}, nil
	case names.DriverGvisor, names.DriverNone:
		return choice{want, "", "configured"}, nil
	}
	date, known := pastaDate(m.PastaVersion)
	switch {
	case m.Pasta != "" && known && !date.Before(pastaSince) && (m.Routed || m.Slirp == "" && ipv6):
		return choice{names.DriverPasta, m.Pasta, "pasta is of " + date.Format(time.DateOnly)}, nil
	case m.Slirp != "":
		why := "pasta is not installed"
		switch {
		case m.Pasta != "" && known && !date.Before(pastaSince):
			why = "pasta does not start without a default route"
		case m.Pasta != "":
			why = "pasta is older than " + pastaSince.Format(time.DateOnly) + " or does not say how old it is"
		}
		return choice{names.DriverSlirp, m.Slirp, why}, nil
	case m.Pasta != "" && ipv6:
		return choice{names.DriverPasta, m.Pasta, "slirp4netns is not installed, and gvisor-tap-vsock does not do IPv6"}, nil
	case ipv6:
		return choice{}, fmt.Errorf("IPv6 is configured: %w", missing("neither pasta nor slirp4netns", "slirp4netns"))
	}
	return choice{names.DriverGvisor, "", "neither slirp4netns nor a recent pasta (with a default route) is there"}, nil
}

func missing(what, pkg string) error {
	if strings.HasPrefix(what, "neither") {
		return fmt.Errorf("%s is installed; install one with: sudo apt install %s", what, pkg)
	}
	return fmt.Errorf("the network driver %s is not installed; install it with: sudo apt install %s", what, pkg)
}

// pasta 2024_10_30.ee7d0b6; pasta 0.0~git20250503.587980c-2; pasta 0^20240607.g8a83b53-1.fc40.x86_64
var pastaRE = regexp.MustCompile(`(?:^|[^0-9])(20[0-9]{2})_?([0-9]{2})_?([0-9]{2})(?:[^0-9]|$)`)

// pastaDate finds the date in the output of pasta --version. Debian 12's says
// "pasta unknown version".
func pastaDate(version string) (time.Time, bool) {
	m := pastaRE.FindStringSubmatch(version)
	if m == nil {
		return time.Time{}, false
	}
	t, err := time.Parse("20060102", m[1]+m[2]+m[3])
	return t, err == nil
}

// better says what another driver than the one chosen would bring on this
// machine, and what it takes; "" where there is no better one.
func better(driver string, m machine) string {
	date, known := pastaDate(m.PastaVersion)
	recent := m.Pasta != "" && known && !date.Before(pastaSince)
	switch driver {
	case names.DriverGvisor:
		out := "slirp4netns takes less memory and cpu, and does IPv6"
		if m.Slirp == "" {
			return out + ": sudo apt install slirp4netns"
		}
		return out + `: "moss-network-driver": "auto"`
	case names.DriverSlirp:
		out := "pasta moves more with less cpu"
		switch {
		case recent && m.Routed:
			return out + `: "moss-network-driver": "auto"`
		case recent:
			return out + ", once this machine has a default route"
		}
		return out + ", if it is of " + pastaSince.Format(time.DateOnly) + " or newer (package passt)"
	case names.DriverPasta:
		if !recent {
			return "a pasta older than " + pastaSince.Format(time.DateOnly) + ` may send what it sent last once more when a connection is closed in one direction, and slirp4netns is faster outwards: "moss-network-driver": "slirp4netns"`
		}
	case names.DriverNone:
		return `any other driver has a way out: "moss-network-driver": "auto"`
	}
	return ""
}
