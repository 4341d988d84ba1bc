package moss

import (
	"strings"
	"unicode"
)

// maxShown is how much is shown of what others say, in bytes.
const maxShown = 4 << 10

// Shown makes of what another program says what may stand in a message of
// ours, which goes to terminals: valid text without control characters but
// newlines and tabs. Of a long one beginning and end are left, since the cause stands last.
func Shown(text string) string {
	if half := maxShown / 2; len(text) > maxShown {
		text = text[:half] + "…" + text[len(text)-half:]
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ReplaceAll(text, "\r\n", "\n"))
	return strings.TrimSpace(text)
}
