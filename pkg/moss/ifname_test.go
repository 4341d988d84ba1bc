package moss

import "testing"

func TestCheckIfname(t *testing.T) {
	for _, name := range []string{"eth0", "backend", "Veth_1", "_x", "0", "a.b-c", "fifteen-letters"} {
		if err := CheckIfname(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "lo", "all", "default", ".x", "-x", "a b", "a/b", "eth%d", "a:1", "ä", "a\n", "sixteen-letters-"} {
		if err := CheckIfname(name); ClassOf(err) != Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}
