package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPath(t *testing.T) {
	for text, want := range map[string]string{
		"0::/user.slice/a b.scope\n":             "/user.slice/a b.scope",
		"12:pids:/x\n1:name=systemd:/y\n0::/z\n": "/z",
		"0::/gone.service (deleted)\n":           "/gone.service",
		"0::/without/an/end":                     "/without/an/end",
		"12:pids:/x\n10::/y\n":                   "",
		"":                                       "",
	} {
		file := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Path(file); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := Path(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a file that there is not: %v", err)
	}
}
