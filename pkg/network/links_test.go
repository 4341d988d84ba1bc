package network

import (
	"net/netip"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A link is a name of the container's own, and hides whoever else has it in that network.
func TestLinkNames(t *testing.T) {
	var z zone
	host := func(id moss.ContainerID, network moss.NetworkID, addr string, names ...string) moss.Interface {
		i := moss.Interface{Network: network, Name: string(network), Names: names, Address: netip.MustParsePrefix(addr)}
		z.add(id, i)
		return i
	}
	host("db", "one", "10.1.0.2/16", "db")
	host("www", "one", "10.1.0.3/16", "www", "store")
	host("far", "two", "10.2.0.4/16", "www")
	links, err := linksIn(moss.Endpoint{Links: []string{"db:Store", "gone:www", "db"}})
	if err != nil {
		t.Fatal(err)
	}
	first := host("me", "one", "10.1.0.5/16", "me")
	first.Links = links
	second := host("me", "two", "10.2.0.5/16", "me")
	v := viewOf(moss.Attachment{Interface: first, Others: []moss.Interface{second}})
	for name, want := range map[string]string{
		"store.": "10.1.0.2", "STORE": "10.1.0.2", "db.": "10.1.0.2", "me": "10.1.0.5",
		"www.": "10.2.0.4", // the link leads nowhere, and hides the one of the same network
		"no":   "",
	} {
		got := ""
		if hosts := v.lookup(&z, name); len(hosts) > 0 {
			got = hosts[0].v4.String()
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, err := linksIn(moss.Endpoint{Links: []string{"a:b:c"}}); moss.ClassOf(err) != moss.Invalid || err == nil {
		t.Error(err)
	}
}
