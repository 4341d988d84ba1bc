package moss

import (
	"strings"
	"testing"
)

func TestSearchDomain(t *testing.T) {
	long := strings.Repeat("a.", 126) + "com"
	for s, want := range map[string]string{
		".": ".", " . ": ".", "a": "a", "example.org": "example.org", "a.b. ": "a.b", "x1-y.Z": "x1-y.Z", "a_b._c": "a_b._c", "1.a": "1.a",
		long[2:]: long[2:],
	} {
		if got, err := SearchDomain(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "_", "1", "1.2", "-a", "a-", "a..b", ".a", "a b", "a\nnameserver 1.2.3.4", "a\n", "a/b", "é", "a.-", "..", long} {
		if got, err := SearchDomain(s); ClassOf(err) != Invalid || !strings.HasSuffix(err.Error(), "is not a valid domain") {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}
