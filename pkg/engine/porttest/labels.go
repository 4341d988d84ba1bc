package porttest

import (
	"slices"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Labels runs the contract suite of [engine.Labels], where the kernel has SELinux.
func Labels(t *testing.T, l engine.Labels) {
	make := func(options ...string) moss.SELinux {
		t.Helper()
		s, err := l.Make(options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Free(s) })
		return s
	}
	one, two := make(), make()
	if one.Process == "" || one.Mount == "" || one.Process == two.Process || one.Mount == two.Mount {
		t.Errorf("labels %+v and %+v: want each its own", one, two)
	}
	if s := make(moss.LabelDisable); s.Process != "" || s.Mount == "" {
		t.Errorf("not confined, it has %+v", s)
	}
	if s := make("level:s0:c5,c9", moss.LabelNested); !strings.HasSuffix(s.Process, ":s0:c5,c9") || !strings.HasSuffix(s.Mount, ":s0:c5,c9") {
		t.Errorf("of a level that was asked for: %+v", s)
	}
	like, err := l.Like(one.Process)
	if err != nil {
		t.Fatal(err)
	}
	if s := make(like...); s != one {
		t.Errorf("like %+v it is %+v", one, s)
	}
	l.Keep(one)
	var more []string
	for range 20 {
		more = append(more, make().Process)
	}
	if slices.Contains(more, one.Process) {
		t.Errorf("%s was given away twice", one.Process)
	}
	if _, err := l.Make([]string{"nonsense:x"}); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("a wrong option: %v, want Invalid", err)
	}
}
