package atonce

import "unicode/utf8"

// What packages strings and encoding/json have: they come later.

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

func cut(s, sep string) (before, after string, found bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if s[i:i+len(sep)] == sep {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

// appendStrings appends a list of strings as JSON.
func appendStrings(to []byte, list []string) []byte {
	to = append(to, '[')
	for i, s := range list {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendString(to, s)
	}
	return append(to, ']')
}

// appendString appends a string of valid UTF-8 as JSON.
func appendString(to []byte, s string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c < ' ':
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = append(to, c)
		}
	}
	return append(to, '"')
}

// valid says whether JSON can have the strings as they are.
func valid(list ...string) bool {
	for _, s := range list {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// member is the text of a member that has a name of its own in an object of JSON:
// in no string is that name between quotes, since they are escaped there.
func member(object []byte, name string) string {
	_, value, _ := cut(string(object), `"`+name+`":`)
	for i := range len(value) {
		if value[i] == ',' || value[i] == '}' {
			return value[:i]
		}
	}
	return ""
}
