package cgroup

import (
	"errors"
	"io/fs"
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
	if _, err := Path(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that there is not: %v", err)
	}
}

func TestDir(t *testing.T) {
	mount := t.TempDir()
	if dir, err := dirBelow(mount, "/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that there is not: %q, %v", dir, err)
	}
	for _, below := range []string{"unified/a", "a"} {
		want := filepath.Join(mount, below)
		if err := os.MkdirAll(want, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(want, "cgroup.procs"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if dir, err := dirBelow(mount, "/a"); dir != want || err != nil {
			t.Errorf("%q, %v, want %q", dir, err, want)
		}
	}
	if _, err := Dir(filepath.Join(mount, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that there is not: %v", err)
	}
}
