package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzMappings: whatever smaps has, what is read of it can be unmapped: it has a
// length, and a mode. A mapping is read as the kernel wrote it.
func FuzzMappings(f *testing.F) {
	f.Add("00400000-01000000 r-xp 00000000 fd:00 123    /usr/bin/my  mossd (deleted)\nRss:   100 kB\nAnonymous: 0 kB\n", uint32(0x400000), uint16(3), "/usr/bin/my  mossd ")
	f.Add("2-1 r-xp 0 0 0 z\nRss: -1 kB", uint32(1), uint16(0), "")
	f.Add("Rss: 5 kB\n1-2 rw-p 0 0 0\nRss: x", uint32(1<<31), uint16(9), "[heap]")
	f.Fuzz(func(t *testing.T, text string, begin uint32, pages uint16, path string) {
		list, err := mappings(strings.NewReader(text))
		if err != nil && list != nil {
			t.Errorf("%q gives %v with %v", text, list, err)
		}
		for _, m := range list {
			if m.begin >= m.end || m.resident < 0 || m.anon < 0 || len(m.mode) != 4 {
				t.Errorf("%q gives %+v", text, m)
			}
			if m.untouched() && (m.mode[:2] != "r-" || m.anon != 0) {
				t.Errorf("%q: %+v is untouched", text, m)
			}
		}
		if strings.ContainsAny(path, "\n\r") || strings.HasPrefix(path, " ") || len(path) > 4096 { // the kernel writes \012; names are absolute
			return
		}
		want := mapping{begin: uintptr(begin), end: uintptr(begin) + 4096*(uintptr(pages)+1), mode: "r-xp", path: path, resident: int(pages), anon: 4}
		line := fmt.Sprintf("%08x-%08x r-xp 00000000 fd:00 123 %30s%s\n", want.begin, want.end, "", path)
		list, err = mappings(strings.NewReader(line + fmt.Sprintf("Size: 4 kB\nRss: %17d kB\nAnonymous: 4 kB\nVmFlags: rd ex\n", pages) + line))
		if err != nil || len(list) != 2 || list[0] != want || list[1].path != path || list[1].resident != 0 {
			t.Errorf("%+v is read as %+v, %v", want, list, err)
		}
	})
}

// FuzzRelease: whatever os-release has, it does a terminal nothing; a value that is
// quoted by the rules of os-release(5) is read as it was.
func FuzzRelease(f *testing.F) {
	f.Add("NAME=\"Debian\"\nVERSION_ID='12'\n# x=y\nPRETTY_NAME=Plain\n", `a "b" $c \ `+"`d'")
	f.Add("PRETTY_NAME=\"\x1b[2J\"\n=\nX=\"\\", "'")
	f.Add("A="+strings.Repeat("x", 70<<10)+"\nPRETTY_NAME=y", `"`)
	f.Fuzz(func(t *testing.T, text, value string) {
		for k, v := range parseRelease(text) {
			if strings.HasPrefix(k, "#") || len(v) > 8<<10 || strings.ContainsFunc(v, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
				t.Errorf("%q has %q: %.200q", text, k, v)
			}
		}
		if strings.Contains(value, "\n") {
			return
		}
		double := `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "`", "\\`", "$", `\$`).Replace(value) + `"`
		forms := []string{double}
		if !strings.Contains(value, "'") {
			forms = append(forms, "'"+value+"'")
		}
		if !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' && r != '-' }) {
			forms = append(forms, value)
		}
		for _, form := range forms {
			if got := parseRelease("# A\nOTHER=1\nPRETTY_NAME=" + form + "\nLAST=\"x\""); got["PRETTY_NAME"] != moss.Shown(value) || got["OTHER"] != "1" || got["LAST"] != "x" {
				t.Errorf("%q, written as %s, is read as %q", value, form, got)
			}
		}
	})
}
