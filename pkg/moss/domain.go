package moss

import "strings"

// longestDomain is what docker's client takes, in bytes.
const longestDomain = 254

// SearchDomain is a search domain as resolv.conf(5) has it, without the spaces
// around and the dot at its end; "." alone stands for none. It is what docker's
// client takes, and also what has underscores, which docker's daemon takes of
// other clients. Errors: Invalid.
func SearchDomain(s string) (string, error) {
	d := strings.Trim(s, " ")
	if d == "." {
		return d, nil
	}
	d = strings.TrimSuffix(d, ".")
	good := len(d) <= longestDomain && strings.ContainsFunc(d, isLetter)
	for label := range strings.SplitSeq(d, ".") {
		good = good && label != "" && strings.Trim(label, "-") == label && !strings.ContainsFunc(label, notOfDomain)
	}
	if !good {
		return "", Errorf(Invalid, "%s is not a valid domain", Shown(s))
	}
	return d, nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func notOfDomain(r rune) bool {
	return !isLetter(r) && (r < '0' || r > '9') && r != '-' && r != '_'
}
