package holder

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/names"
)

const (
	newPasta = "pasta 0.0~git20250503.587980c-2"
	oldPasta = "pasta unknown version"
)

func TestChoose(t *testing.T) {
	all := machine{Pasta: "/p", PastaVersion: newPasta, Slirp: "/s", Routed: true}
	for name, c := range map[string]struct {
		want, driver, err string
		ipv6              bool
		m                 machine
	}{
		"best":            {names.DriverAuto, names.DriverPasta, "", false, all},
		"offline":         {names.DriverAuto, names.DriverSlirp, "", false, machine{"/p", newPasta, "/s", false, false}},
		"old pasta":       {names.DriverAuto, names.DriverSlirp, "", false, machine{"/p", oldPasta, "/s", true, false}},
		"slirp only":      {names.DriverAuto, names.DriverSlirp, "", false, machine{Slirp: "/s"}},
		"old pasta only":  {names.DriverAuto, names.DriverGvisor, "", false, machine{"/p", oldPasta, "", true, false}},
		"nothing":         {names.DriverAuto, names.DriverGvisor, "", false, machine{}},
		"old pasta, IPv6": {names.DriverAuto, names.DriverPasta, "", true, machine{"/p", oldPasta, "", true, false}},
		"nothing, IPv6":   {names.DriverAuto, "", "apt install slirp4netns", true, machine{}},
		"slirp":           {names.DriverSlirp, names.DriverSlirp, "", false, all},
		"no slirp":        {names.DriverSlirp, "", "apt install slirp4netns", false, machine{}},
		"pasta":           {names.DriverPasta, names.DriverPasta, "", false, machine{"/p", oldPasta, "/s", false, false}},
		"no pasta":        {names.DriverPasta, "", "apt install passt", false, machine{}},
		"gvisor":          {names.DriverGvisor, names.DriverGvisor, "", false, all},
		"none":            {names.DriverNone, names.DriverNone, "", false, all},
	} {
		got, err := choose(c.want, c.ipv6, c.m)
		if got.Driver != c.driver || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err == nil && got.Why == "" {
			t.Errorf("%s: no reason", name)
		}
	}
}

func TestPastaDate(t *testing.T) {
	for s, want := range map[string]string{
		newPasta: "2025-05-03", "pasta 2024_10_30.ee7d0b6": "2024-10-30", "pasta 0^20240607.g8a83b53-1.fc40.x86_64": "2024-06-07",
		oldPasta: "", "": "", "pasta 20249999.1": "", "pasta 120240607": "",
	} {
		got, ok := pastaDate(s)
		if ok != (want != "") || ok && got.Format("2006-01-02") != want {
			t.Errorf("%q: %v, %v", s, got, ok)
		}
	}
}

// A pasta that says its version to a terminal only, one that says it to all, and none.
func TestPastaVersion(t *testing.T) {
	for script, want := range map[string]string{
		"[ ! -t 1 ] || echo 'pasta of a terminal'; echo more":    "more",
		"[ ! -t 1 ] || printf 'pasta 0.0~git20250503\\nmore\\n'": "pasta 0.0~git20250503",
		"echo pasta 1; echo more":                                "pasta 1",
		"echo pasta 2; exit 1":                                   "",
		"[ ! -t 1 ] || { echo pasta 3; exit 1; }":                "",
	} {
		path := filepath.Join(t.TempDir(), "pasta")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := pastaVersion(t.Context(), path); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

func TestHasDefaultRoute(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for s, want := range map[string]bool{
		"": false, head: false,
		head + "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n": false,
		head + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n": true,
		head + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n": false, // 0.0.0.0/1
	} {
		if got := hasDefaultRoute(strings.NewReader(s)); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestBetter(t *testing.T) {
	for _, tc := range []struct {
		driver string
		m      machine
		want   string
	}{
		{names.DriverGvisor, machine{}, "apt install slirp4netns"},
		{names.DriverGvisor, machine{Slirp: "/s"}, `"auto"`},
		{names.DriverSlirp, machine{Slirp: "/s"}, "of 2024-10-30 or newer"},
		{names.DriverSlirp, machine{Pasta: "/p", PastaVersion: "pasta 2025_01_21.4f2c8e7", Routed: true}, `"auto"`},
		{names.DriverSlirp, machine{Pasta: "/p", PastaVersion: "pasta 2025_01_21.4f2c8e7"}, "a default route"},
		{names.DriverPasta, machine{Pasta: "/p", PastaVersion: "pasta unknown version"}, `"slirp4netns"`},
		{names.DriverNone, machine{}, "a way out"},
	} {
		if got := better(tc.driver, tc.m); !strings.Contains(got, tc.want) {
			t.Errorf("%s, %+v: %q, want %q", tc.driver, tc.m, got, tc.want)
		}
	}
	if got := better(names.DriverPasta, machine{Pasta: "/p", PastaVersion: "pasta 2025_01_21.4f2c8e7"}); got != "" {
		t.Errorf("better than the best: %q", got)
	}
}

func TestHasDefaultRoute6(t *testing.T) {
	const zero = "00000000000000000000000000000000"
	for s, want := range map[string]bool{
		"": false,
		zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n":      true,
		zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n":                          false,
		zero + " 01 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n":      false,
		"20010db8000000000000000000000000 40 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00000001     eth0\n": false,
	} {
		if got := hasDefaultRoute6(strings.NewReader(s)); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestWantsIPv6(t *testing.T) {
	for _, tc := range []struct {
		c      Config
		driver string
		m      machine
		want   bool
	}{
		{Config{IPv6: true}, names.DriverSlirp, machine{}, true},
		{Config{IPv6Auto: true}, names.DriverSlirp, machine{}, false},
		{Config{IPv6Auto: true}, names.DriverSlirp, machine{Routed6: true}, true},
		{Config{IPv6Auto: true}, names.DriverPasta, machine{Routed6: true}, true},
		{Config{IPv6Auto: true}, names.DriverGvisor, machine{Routed6: true}, false},
		{Config{}, names.DriverSlirp, machine{Routed6: true}, false},
	} {
		if got := wantsIPv6(tc.c, tc.driver, tc.m); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := Config{StateDir: "/run/user/1000/moss/rootless/"}.normal()
	if err != nil || c.MTU != DefaultMTU || c.CIDR != DefaultCIDR || c.NetworkDriver != names.DriverAuto || c.Log == nil ||
		c.StateDir != "/run/user/1000/moss/rootless" || c.ipNet().String() != "10.0.2.0/24" {
		t.Errorf("%+v, %v", c, err)
	}
	for name, c := range map[string]Config{
		"relative":          {StateDir: "x"},
		"long":              {StateDir: "/" + strings.Repeat("x", 90)},
		"driver":            {StateDir: "/x", NetworkDriver: "host"},
		"mtu":               {StateDir: "/x", MTU: 100},
		"big mtu":           {StateDir: "/x", MTU: 65536},
		"IPv6 network":      {StateDir: "/x", CIDR: netip.MustParsePrefix("fd00::/64")},
		"small network":     {StateDir: "/x", CIDR: netip.MustParsePrefix("10.0.2.0/25")},
		"host bits":         {StateDir: "/x", CIDR: netip.MustParsePrefix("10.0.2.1/24")},
		"gvisor, IPv6":      {StateDir: "/x", NetworkDriver: names.DriverGvisor, IPv6: true},
		"gvisor, elsewhere": {StateDir: "/x", NetworkDriver: names.DriverGvisor, HostLoopback: true, CIDR: netip.MustParsePrefix("10.9.0.0/24")},
	} {
		if got, err := c.normal(); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCheckTun(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "tun")
	if err := checkTun(names.DriverNone, missing); err != nil {
		t.Error(err)
	}
	if err := checkTun(names.DriverSlirp, missing); err == nil || !strings.Contains(err.Error(), "modprobe tun") {
		t.Error(err)
	}
	if os.Geteuid() != 0 { // root opens everything
		if err := os.WriteFile(missing, nil, 0); err != nil {
			t.Fatal(err)
		}
		if err := checkTun(names.DriverSlirp, missing); err == nil || !strings.Contains(err.Error(), "chmod 0666") {
			t.Error(err)
		}
	}
}
