package moss

import "testing"

func TestIsSlice(t *testing.T) {
	for name, want := range map[string]bool{
		"a.slice": true, "moss-web.slice": true, `a\x2db-c@1.slice`: true,
		"": false, "a": false, ".slice": false, "-a.slice": false, "a-.slice": false, "a--b.slice": false, "a/b.slice": false, "a.slice\n": false, "a.scope": false,
	} {
		if got := IsSlice(name); got != want {
			t.Errorf("IsSlice(%q) = %v", name, got)
		}
	}
}
