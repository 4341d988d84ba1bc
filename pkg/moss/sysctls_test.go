package moss

import "testing"

func TestParseSysctls(t *testing.T) {
	got, err := ParseSysctls("net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.neigh.ifname.retrans_time_ms=500", "eth3")
	if err != nil || len(got) != 2 || got[0] != (Sysctl{"net/ipv4/conf/eth3/log_martians", "1"}) || got[1] != (Sysctl{"net/ipv6/neigh/eth3/retrans_time_ms", "500"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"", "net.ipv4.conf.eth0.log_martians=1", "net.ipv4.conf.IFNAME.log_martians", "net.ipv4.conf.IFNAME.x=", "kernel.conf.IFNAME.x=1", "net.ipv4.conf.IFNAME.../x=1", "net.ipv4.conf.IFNAME.a=1,,"} {
		if got, err := ParseSysctls(wrong, "eth0"); ClassOf(err) != Invalid {
			t.Errorf("%q: %+v, %v", wrong, got, err)
		}
	}
}
