package moss_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestShown(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	for in, want := range map[string]string{
		"":                         "",
		" as it is:\n\tsecond\r\n": "as it is:\n\tsecond",
		"\x1b[2Jgone\x00\x7f":      "\uFFFD[2Jgone\uFFFD\uFFFD",
		"\u009b31m":                "\uFFFD31m", // the CSI of ISO 6429, one character
		"\xff":                     "\uFFFD",
		"begin" + long + "end":     "",
	} {
		got := moss.Shown(in)
		if want != "" && got != want || in == "" && got != "" {
			t.Errorf("%q is shown as %q", in, got)
		}
		if len(in) > len(long) && (len(got) > 5<<10 || !strings.HasPrefix(got, "begin") || !strings.HasSuffix(got, "end")) {
			t.Errorf("of a long text are shown %d bytes, %.10q to %.10q", len(got), got, got[len(got)-10:])
		}
	}
}

// FuzzShown: whatever another program says, it does a terminal nothing.
func FuzzShown(f *testing.F) {
	f.Add("a\x1b]0;title\x07\xc2")
	f.Fuzz(func(t *testing.T, s string) {
		got := moss.Shown(s)
		if !utf8.ValidString(got) || len(got) > 16<<10 || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q is shown as %q", s, got)
		}
		if len(s) < 1<<10 && moss.Shown(got) != got {
			t.Errorf("%q is shown as %q, and that in another way", s, got)
		}
	})
}

// FuzzParseSysctls: what an end point's option sets lies below the link's own directory.
func FuzzParseSysctls(f *testing.F) {
	f.Add("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.x=a=b")
	f.Add("net.ipv4.conf.../../../kernel/x=1")
	f.Fuzz(func(t *testing.T, value string) {
		all, err := moss.ParseSysctls(value, "eth0")
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%q: %v is %v", value, err, moss.ClassOf(err))
			}
			return
		}
		for _, s := range all {
			part := strings.Split(s.Path, "/")
			if len(part) != 5 || part[0] != "net" || part[3] != "eth0" || part[4] == "" || strings.ContainsAny(part[4], ".\n\x00") || s.Value == "" {
				t.Errorf("%q sets %+v", value, s)
			}
		}
	})
}
