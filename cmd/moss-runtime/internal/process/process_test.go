package process

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestKeyringsUsedUp(t *testing.T) {
	for _, test := range []struct {
		text string
		want bool
	}{
		{"    0:     5 4/4 2/200 60/20000\n", false},
		{"    0:     5 4/4 190/200 60/20000\n", true},
		{" 1000:     5 4/4 200/200 60/20000\n    0: 1 1/1 1/200 9/20000\n", false},
		{"", false},
		{"0: what\n", false},
	} {
		if got := keyringsUsedUp(test.text, 0); got != test.want {
			t.Errorf("%q: %v, want %v", test.text, got, test.want)
		}
	}
}

func TestNewCarriesEverything(t *testing.T) {
	lp, err := New(&specs.Process{
		Args: []string{"a"}, Env: []string{"B=c"}, Cwd: "/d", NoNewPrivileges: true,
		User:         specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3, 4}},
		ConsoleSize:  &specs.Box{Height: 5, Width: 6},
		Capabilities: &specs.LinuxCapabilities{Ambient: []string{"CAP_KILL"}},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: 7, Soft: 8}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if lp.UID != 1 || lp.GID != 2 || len(lp.AdditionalGroups) != 2 || lp.AdditionalGroups[1] != 4 ||
		lp.ConsoleHeight != 5 || lp.ConsoleWidth != 6 || !*lp.NoNewPrivileges ||
		lp.Capabilities.Ambient[0] != "CAP_KILL" || lp.Rlimits[0].Hard != 7 || lp.Rlimits[0].Soft != 8 {
		t.Errorf("%+v", lp)
	}
	if _, err := New(&specs.Process{Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NONE"}}}); err == nil {
		t.Error("an unknown rlimit is accepted")
	}
}
