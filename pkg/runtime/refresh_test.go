package runtime

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRefresh(t *testing.T) {
	dir := t.TempDir()
	b := moss.Bundle{
		Container: moss.Container{Config: moss.ContainerConfig{Hostname: "web"}},
		Attachment: moss.Attachment{
			Mode:      "one",
			Interface: moss.Interface{Address: netip.MustParsePrefix("10.1.0.2/16")},
			DNS:       []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		},
		Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"), Resolv: filepath.Join(dir, "resolv.conf"),
	}
	if err := writeFiles(b); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(b.Hosts) // as the bind holds it
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	text, err := os.ReadFile(b.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.Hosts, append(text, "192.0.2.9\tmine"...), 0o600); err != nil {
		t.Fatal(err)
	}
	two := b
	two.Attachment.Others = []moss.Interface{{Address: netip.MustParsePrefix("10.2.0.7/16")}}
	two.Attachment.DNS = []netip.Addr{moss.ResolverAddr}
	var r Runtime
	check := func(old, now moss.Bundle, has, hasNot []string, server string) {
		t.Helper()
		if err := r.Refresh(t.Context(), old, now); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4096)
		n, _ := held.ReadAt(got, 0)
		for _, w := range has {
			if !strings.Contains(string(got[:n]), w) {
				t.Errorf("hosts lacks %q:\n%s", w, got[:n])
			}
		}
		for _, w := range hasNot {
			if strings.Contains(string(got[:n]), w) {
				t.Errorf("hosts has %q:\n%s", w, got[:n])
			}
		}
		resolv, err := os.ReadFile(b.Resolv)
		if err != nil || !strings.Contains(string(resolv), "nameserver "+server+"\n") {
			t.Errorf("resolv.conf is %q, %v", resolv, err)
		}
	}
	check(b, two, []string{"10.1.0.2\tweb\n", "10.2.0.7\tweb\n", "192.0.2.9\tmine\n"}, nil, moss.ResolverAddr.String())
	check(two, b, []string{"10.1.0.2\tweb\n", "192.0.2.9\tmine\n"}, []string{"10.2.0.7"}, "192.0.2.1")
}
