package main

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzMountFlag: what --mount is given.
func FuzzMountFlag(f *testing.F) {
	f.Add("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave")
	f.Add("type=tmpfs,\"target=/a,b\",tmpfs-size=1k,tmpfs-mode=1777")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseMount(s) })
}

// FuzzDeviceFlags: what --device, --network and the limits of disks are given.
func FuzzDeviceFlags(f *testing.F) {
	f.Add("/dev/sda:/dev/x:rwm", "name=n,alias=a,ip=1.2.3.4,mac-address=02:00:00:00:00:01", "/dev/sda:10")
	f.Fuzz(func(t *testing.T, device, net, limit string) {
		_, _ = deviceMapping(device)
		_, _, _ = networkArg(net)
		path, n, err := deviceValue(limit, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
		if err == nil && (n == 0 || !strings.HasPrefix(path, "/dev/")) {
			t.Errorf("%q gives %q and %d", limit, path, n)
		}
	})
}
