package rootless

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/names"
)

func TestInfo(t *testing.T) {
	dir := t.TempDir()
	want := Info{
		NetworkDriver: names.DriverSlirp, Why: "configured", ChildIP: netip.MustParseAddr("10.0.2.100"),
		DNS: []netip.Addr{netip.MustParseAddr("10.0.2.3")}, MTU: 65520, Gateway: netip.MustParseAddr("10.0.2.2"),
		ChildPID: 42, APISock: "/a", NetNS: "/n", StateDir: dir,
	}
	for range 2 { // over an old one too
		if err := WriteInfo(want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadInfo(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if err := os.WriteFile(filepath.Join(dir, InfoFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadInfo(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

func TestParseDriver(t *testing.T) {
	for _, d := range names.Drivers() {
		if got, err := ParseDriver(d); got != d || err != nil {
			t.Errorf("%s: %s, %v", d, got, err)
		}
	}
	if got, err := ParseDriver(""); got != names.DriverAuto || err != nil {
		t.Errorf("empty: %s, %v", got, err)
	}
	if _, err := ParseDriver("vpnkit"); err == nil || !strings.Contains(err.Error(), names.DriverGvisor) {
		t.Error(err)
	}
}
