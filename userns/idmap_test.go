package userns

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

var alice = []IDMap{{0, 1000, 1}, {1, 100000, 65536}, {65537, 400000, 10}}

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		in, out uint32
		ok      bool
	}{
		{0, 1000, true},
		{1, 100000, true},
		{65536, 165535, true},
		{65537, 400000, true},
		{65546, 400009, true},
		{65547, 0, false},
		{1<<32 - 1, 0, false},
	} {
		got, err := ToHost(alice, c.in)
		if got != c.out || (err == nil) != c.ok || err != nil && !errors.Is(err, ErrUnmapped) {
			t.Errorf("ToHost(%d) = %d, %v", c.in, got, err)
		}
		if !c.ok {
			continue
		}
		if back, err := ToContainer(alice, c.out); back != c.in || err != nil {
			t.Errorf("ToContainer(%d) = %d, %v", c.out, back, err)
		}
	}
	for _, id := range []uint32{0, 999, 1001, 99999, 165536, 400010} {
		if got, err := ToContainer(alice, id); !errors.Is(err, ErrUnmapped) {
			t.Errorf("ToContainer(%d) = %d, %v", id, got, err)
		}
	}
}

func TestCurrent(t *testing.T) {
	m, err := Current()
	if err != nil || len(m.UIDs) == 0 || len(m.GIDs) == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	outer, err := OuterUID()
	if err != nil {
		t.Fatal(err)
	}
	if want, err := ToHost(m.UIDs, uint32(os.Geteuid())); err != nil || outer != want {
		t.Errorf("outer uid %d, want %d, %v", outer, want, err)
	}
	if Joined() {
		t.Error("joined without being asked")
	}
}

func TestCheckNotRoot(t *testing.T) {
	whole := []IDMap{{0, 0, 1<<32 - 1}}
	for name, c := range map[string]struct {
		euid int
		maps []IDMap
		ok   bool
	}{
		"root": {0, whole, false}, "user": {1000, whole, true}, "uid 0 of a user namespace": {0, alice, true},
		"root's own small namespace": {0, []IDMap{{0, 0, 1}}, true},
	} {
		err := checkNotRoot(c.euid, c.maps)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "moss setup") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckNotRoot(); os.Geteuid() != 0 && err != nil {
		t.Error(err)
	}
}

func TestParseMap(t *testing.T) {
	m, err := parseMap(strings.NewReader("         0       1000          1\n         1     100000      65536\n"))
	if err != nil || !slices.Equal(m, alice[:2]) {
		t.Errorf("%v, %v", m, err)
	}
	for _, s := range []string{"0 1\n", "0 1 x\n", "0 1 4294967296\n", "-1 0 1\n"} {
		if m, err := parseMap(strings.NewReader(s)); err == nil {
			t.Errorf("%q gave %v", s, m)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("0 1000 1\n1 100000 65536\n")
	f.Fuzz(func(t *testing.T, s string) {
		maps, err := parseMap(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, m := range maps {
			if m.Size == 0 {
				continue
			}
			out, err := ToHost([]IDMap{m}, m.ContainerID)
			if err != nil || out != m.HostID {
				t.Errorf("%+v: %d, %v", m, out, err)
			}
		}
	})
}
