package image

import (
	"errors"
	"fmt"
	"strings"
)

// splitWords cuts a line at blanks that are not quoted. Quotes and backslashes
// stay for expand. There is at least one word in a line that is not blank.
func splitWords(line string) ([]string, error) {
	var words []string
	start, quote := -1, byte(0)
	for i := 0; i < len(line); i++ {
		b := line[i]
		blank := b == ' ' || b == '\t' || b == '\n' || b == '\r'
		if start < 0 {
			if blank {
				continue
			}
			start = i
		}
		switch {
		case b == '\\' && quote != '\'':
			i++ // what follows is no quote and no blank
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '"' || b == '\'':
			quote = b
		case blank:
			words = append(words, line[start:i])
			start = -1
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	if len(words) == 0 {
		return nil, errors.New("it has no arguments")
	}
	return words, nil
}

// expand takes the quotes off a word and puts values in for $name, ${name},
// ${name:-default} and ${name:+other}, as a Dockerfile has them.
func expand(word string, env []string) (string, error) {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(word); i++ {
		b := word[i]
		switch {
		case b == '\'' && quote != '"', b == '"' && quote != '\'':
			quote ^= b // opens, and closes the same
		case b == '\\' && quote != '\'':
			if i+1 == len(word) {
				return "", errors.New("it ends with a backslash")
			}
			i++
			// Between double quotes a backslash takes only these for itself.
			if quote == '"' && !strings.ContainsRune(`"$\`, rune(word[i])) {
				out.WriteByte('\\')
			}
			out.WriteByte(word[i])
		case b == '$' && quote != '\'':
			value, n, err := variable(word[i+1:], env)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += n
		default:
			out.WriteByte(b)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("the quote %c is not closed", quote)
	}
	return out.String(), nil
}

// variable reads what follows a dollar sign and tells how long it was.
func variable(s string, env []string) (value string, n int, err error) {
	if !strings.HasPrefix(s, "{") {
		for n < len(s) && isName(s[n], n == 0) {
			n++
		}
		if n == 0 {
			return "$", 0, nil
		}
		value, _ = lookup(env, s[:n])
		return value, n, nil
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", 0, errors.New("a ${ is not closed")
	}
	name, rest := s[1:end], ""
	for i := range len(name) {
		if !isName(name[i], i == 0) {
			name, rest = name[:i], name[i:]
			break
		}
	}
	if name == "" {
		return "", 0, fmt.Errorf("${%s} has no name", s[1:end])
	}
	value, set := lookup(env, name)
	switch {
	case rest == "":
	case strings.HasPrefix(rest, ":-"):
		if value == "" {
			value = rest[2:]
		}
	case strings.HasPrefix(rest, ":+"):
		if set && value != "" {
			value = rest[2:]
		} else {
			value = ""
		}
	default:
		return "", 0, fmt.Errorf("${%s}: only :- and :+ can follow a name", s[1:end])
	}
	return value, end + 1, nil
}

func isName(b byte, first bool) bool {
	return b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || !first && '0' <= b && b <= '9'
}

func lookup(env []string, name string) (string, bool) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}
