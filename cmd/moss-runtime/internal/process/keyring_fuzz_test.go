package process

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzKeyrings: the user's line is found among those of others, and only that counts.
func FuzzKeyrings(f *testing.F) {
	f.Add("    0:     5 4/4 199/200 60/20000\n", 1000, 3, 200)
	f.Add("1000", 1000, 190, 200)
	f.Add(" 1000: 5 4/4", -1, -5, 0)
	f.Fuzz(func(t *testing.T, others string, uid, used, most int) {
		if others != "" && !strings.HasSuffix(others, "\n") {
			others += "\n"
		}
		for line := range strings.Lines(others) {
			if w := strings.Fields(line); len(w) > 0 && w[0] == fmt.Sprintf("%d:", uid) {
				return
			}
		}
		if keyringsUsedUp(others, uid) {
			t.Errorf("%d has used up what others have: %q", uid, others)
		}
		if used < 0 || most < 0 {
			return
		}
		text := others + fmt.Sprintf("%5d: %5d 4/4 %d/%d 60/20000\n", uid, used, used, most)
		if got := keyringsUsedUp(text, uid); got != (most-used < keysSpare) {
			t.Errorf("%q: %v", text, got)
		}
	})
}
