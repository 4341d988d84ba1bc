package selinux

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestLabels(t *testing.T) {
	if Enabled() {
		porttest.Labels(t, Labels{})
		return
	}
	// Without SELinux there are no labels, and nothing is touched.
	if _, err := (Labels{}).Make([]string{"type:spc_t", moss.LabelNested}); moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("a label that cannot be had: %v, want NotImplemented", err)
	}
	if err := (Labels{}).Check(); moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("%v, want NotImplemented", err)
	}
	l, err := Labels{}.Make(nil)
	if err != nil || l != (moss.SELinux{}) {
		t.Errorf("%+v, %v", l, err)
	}
	if err := (Labels{}).Relabel(filepath.Join(t.TempDir(), "missing"), l, true); err != nil {
		t.Error(err)
	}
	Labels{}.Keep(l)
	Labels{}.Free(l)
}

// What the policy does not know is refused with a way out; not to be confined can be had with every policy.
func TestUnknownLabels(t *testing.T) {
	const process, mount, mine = "u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2", "u:r:svirt_t:s0:c1,c2"
	both := moss.SELinux{Process: process, Mount: mount}
	for name, c := range map[string]struct {
		options []string
		made    moss.SELinux
		known   []string
		err     error
		want    moss.SELinux
		says    string
	}{
		"all known":                   {made: both, known: []string{process, mount}, want: both},
		"none known":                  {made: both, says: "does not know the label"},
		"no files' type":              {options: []string{"type:svirt_t"}, made: moss.SELinux{Process: mine, Mount: mount}, known: []string{mine}, says: "label=filetype:"},
		"no process' type":            {options: []string{"type:nobody_t"}, made: both, known: []string{mount}, says: "label=type:"},
		"asking is not for me":        {made: both, err: unix.EACCES, want: both},
		"no contexts":                 {options: []string{"level:s0:c1"}, says: "lxc_contexts"},
		"no contexts, none asked for": {},
		"not confined":                {options: []string{moss.LabelDisable}, made: moss.SELinux{Mount: mount}, known: []string{mount}, want: moss.SELinux{Mount: mount}},
		"not confined, no type":       {options: []string{moss.LabelDisable}, made: moss.SELinux{Mount: mount}},
		"not confined, no context":    {options: []string{moss.LabelDisable}},
	} {
		check := func(label string) error {
			if slices.Contains(c.known, label) {
				return nil
			}
			return &os.PathError{Op: "write", Path: "/sys/fs/selinux/context", Err: errors.Join(unix.EINVAL)}
		}
		if c.err != nil {
			check = func(string) error { return c.err }
		}
		got, err := judged(c.options, c.made, check)
		if c.says == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "label=disable")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
