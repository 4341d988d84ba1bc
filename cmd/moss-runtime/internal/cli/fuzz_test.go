package cli

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzDescribed: whatever a process calls itself, it has one line in the table, and its command is all there.
func FuzzDescribed(f *testing.F) {
	f.Add("Name:\tsh\nPPid:\t1\nUid:\t0\t0\t0\t0\n", "sh\x00-c\x00sleep 1\x00")
	f.Add("Name:\t\x1b[2J\nPPid:\nUid:\n", "")
	f.Add("Name:\tx\n", "\x1b]0;no\a\x00a\tb\nc\x00\x00")
	f.Fuzz(func(t *testing.T, status, args string) {
		d := described(status, args)
		for _, s := range []string{d.command, d.ppid, d.uid} {
			if strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%q, %q: %+q", status, args, d)
			}
		}
		if trimmed := strings.TrimRight(args, "\x00"); trimmed != "" && utf8.RuneCountInString(d.command) != utf8.RuneCountInString(trimmed) {
			t.Errorf("%q is told as %q", args, d.command)
		}
	})
}
