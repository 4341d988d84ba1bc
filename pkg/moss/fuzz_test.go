package moss_test

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// What is read of a link can be told in inspect's form, and read again.
func FuzzParseLink(f *testing.F) {
	for _, s := range []string{"db", "db:alias", "/db:/client/alias", "a:b:c", ":", "/", "db:\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := moss.ParseLink(s)
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%q: %v is %v", s, err, moss.ClassOf(err))
			}
			return
		}
		if l.Container == "" || l.Alias == "" || strings.ContainsAny(l.Alias, " \t\r\n/:") {
			t.Errorf("%q gives %+v", s, l)
		}
		again, err := moss.ParseLink("/" + l.Container + ":/owner/" + l.Alias)
		if err != nil || again != l {
			t.Errorf("%q gives %+v, and that %+v, %v", s, l, again, err)
		}
	})
}

func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"TERM", "SIGRTMIN+3", "9", "-1", "rtmax-2", "SIG"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if sig, err := moss.ParseSignal(s); err == nil && (sig < 0 || sig > 64) {
			t.Errorf("%q is signal %d", s, sig)
		}
	})
}
