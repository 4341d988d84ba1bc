package rootless

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestInfo(t *testing.T) {
	dir := t.TempDir()
	want := Info{
		NetworkDriver: DriverSlirp, Why: "configured", ChildIP: netip.MustParseAddr("10.0.2.100"),
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
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.WriteFile(filepath.Join(dir, InfoFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadInfo(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

func TestParseDriver(t *testing.T) {
	for _, d := range Drivers() {
		if got, err := ParseDriver(d); got != d || err != nil {
			t.Errorf("%s: %s, %v", d, got, err)
		}
	}
	if got, err := ParseDriver(""); got != DriverAuto || err != nil {
		t.Errorf("empty: %s, %v", got, err)
	}
	if _, err := ParseDriver("vpnkit"); err == nil || !strings.Contains(err.Error(), DriverGvisor) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, program := range []string{Binary, GvisorBinary} {
		if _, err := find(program); err == nil || !strings.Contains(err.Error(), "cannot find "+program) || !strings.Contains(err.Error(), "make install") {
			t.Errorf("%s nowhere: %v", program, err)
		}
		want := filepath.Join(dir, program)
		if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := find(program); got != want || err != nil {
			t.Errorf("%s in PATH: %s, %v", program, got, err)
		}
	}
}
