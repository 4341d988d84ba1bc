package runtime

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRefreshLinks(t *testing.T) {
	addr := netip.MustParseAddr
	b := moss.Bundle{
		Container:  moss.Container{Config: moss.ContainerConfig{Hostname: "client"}, Host: moss.HostConfig{ExtraHosts: []string{"db:192.0.2.1"}}},
		Attachment: moss.Attachment{Mode: moss.NetworkBridge, Interface: moss.Interface{Address: netip.MustParsePrefix("10.1.0.9/16")}},
		Hosts:      filepath.Join(t.TempDir(), "hosts"),
		Links:      []moss.LinkedHost{{Names: []string{"db", "h1", "web"}, Addresses: []netip.Addr{addr("10.1.0.2"), addr("fd00::2")}}},
	}
	text, err := hostsFile(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	const fixed = "192.0.2.1\tdb\n"
	head, _, _ := strings.Cut(string(text), fixed)
	if want := head + fixed + "10.1.0.2\tdb h1 web\nfd00::2\tdb h1 web\n10.1.0.9\tclient\n"; string(text) != want {
		t.Fatalf("hosts is\n%s\nwant\n%s", text, want)
	}
	if err := os.WriteFile(b.Hosts, append(text, "192.0.2.7\tmine"...), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(b.Hosts) // as the container's bind holds it
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var r Runtime
	for _, c := range []struct {
		links []moss.LinkedHost
		want  string
	}{
		{nil, "10.1.0.2\tdb h1 web\nfd00::2\tdb h1 web\n10.1.0.9\tclient\n192.0.2.7\tmine"},
		{[]moss.LinkedHost{{Names: []string{"db", "h1", "web"}, Addresses: []netip.Addr{addr("10.1.0.77")}}}, "10.1.0.77\tdb h1 web\n10.1.0.9\tclient\n192.0.2.7\tmine"},
		{[]moss.LinkedHost{{Names: []string{"db", "h2", "renamed"}, Addresses: []netip.Addr{addr("10.1.0.3")}}}, "10.1.0.3\tdb h2 renamed\n10.1.0.9\tclient\n192.0.2.7\tmine"},
		{[]moss.LinkedHost{{Names: []string{"new", "n"}, Addresses: []netip.Addr{addr("10.1.0.4")}}}, "10.1.0.3\tdb h2 renamed\n10.1.0.9\tclient\n192.0.2.7\tmine\n10.1.0.4\tnew n\n"},
		{[]moss.LinkedHost{{Names: []string{"db"}}}, "10.1.0.9\tclient\n192.0.2.7\tmine\n10.1.0.4\tnew n\n"},
	} {
		if err := r.RefreshLinks(t.Context(), b, c.links); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4096)
		n, _ := held.ReadAt(got, 0)
		if want := head + fixed + c.want; string(got[:n]) != want {
			t.Errorf("hosts is\n%s\nwant\n%s", got[:n], want)
		}
	}
	if err := os.Remove(b.Hosts); err != nil {
		t.Fatal(err)
	}
	if err := r.RefreshLinks(t.Context(), b, nil); err != nil {
		t.Errorf("of a container that ends: %v", err)
	}
}
