package selinux

import (
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestLabels(t *testing.T) {
	if Enabled() {
		porttest.Labels(t, Labels{})
		return
	}
	// Without SELinux there are no labels, and nothing is touched.
	l, err := Labels{}.Make([]string{"type:spc_t", moss.LabelNested})
	if err != nil || l != (moss.SELinux{}) {
		t.Errorf("%+v, %v", l, err)
	}
	if err := (Labels{}).Relabel(filepath.Join(t.TempDir(), "missing"), l, true); err != nil {
		t.Error(err)
	}
	Labels{}.Keep(l)
	Labels{}.Free(l)
}
