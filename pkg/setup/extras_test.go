package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExtras(t *testing.T) {
	dir := t.TempDir()
	one, err := DockerContext(filepath.Join(dir, "docker"), "moss", "/run/user/1/moss/moss.sock")
	if err != nil {
		t.Fatal(err)
	}
	// Where docker's store looks: the digest of the name.
	if want := "docker/contexts/meta/9e135ab954828446379a956e7e12eb7254a482059c765a4e055b617ffe624057/meta.json"; one.Path != filepath.Join(dir, want) {
		t.Errorf("the context is in %s, want %s", one.Path, want)
	}
	page := Extra{Path: filepath.Join(dir, "man/man1/moss.1"), Text: Marker + " anew"}
	foreign := Extra{Path: filepath.Join(dir, "theirs"), Text: Marker}
	if err := os.WriteFile(foreign.Path, []byte("by hand"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []Extra{one, page, foreign}
	install := func() string {
		var r Report
		if err := installExtras(all, &r); err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(strings.Join(append(r.Done, r.Notes...), "; "), dir, "DIR")
	}
	left := "left alone, as moss setup has not written it: DIR/theirs"
	if got, want := install(), "wrote "+strings.Replace(one.Path, dir, "DIR", 1)+"; wrote DIR/man/man1/moss.1; "+left; got != want {
		t.Errorf("first: %s\nwant %s", got, want)
	}
	if got := install(); got != left {
		t.Errorf("again: %s", got)
	}
	if err := os.WriteFile(page.Path, []byte(Marker+" by an older moss"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := install(); got != "wrote DIR/man/man1/moss.1; "+left {
		t.Errorf("after an upgrade: %s", got)
	}
	var r Report
	if err := removeExtras(all, &r); err != nil || len(r.Done) != 2 {
		t.Fatalf("removed %v, %v", r.Done, err)
	}
	for _, path := range []string{filepath.Dir(one.Path), page.Path} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if text, err := os.ReadFile(foreign.Path); err != nil || string(text) != "by hand" {
		t.Errorf("the foreign file: %s, %v", text, err)
	}
	if err := removeExtras(all, &r); err != nil || len(r.Done) != 2 {
		t.Errorf("removed again: %v, %v", r.Done, err)
	}
}
