package api

import (
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// defaultDetachKeys is ctrl-p,ctrl-q.
var defaultDetachKeys = []byte{'p' & 0x1f, 'q' & 0x1f}

// parseDetachKeys reads docker's notation: keys with commas between them, each
// one character or ctrl- and one of a-z @ [ \ ] ^ _. "" means ctrl-p,ctrl-q.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return defaultDetachKeys, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		switch {
		case len(key) == 1 && key[0] < 0x80:
			keys = append(keys, key[0])
		case len(key) == len("ctrl-x") && strings.HasPrefix(key, "ctrl-"):
			c := key[len(key)-1]
			if c != '@' && (c < 'a' || c > 'z') && (c < '[' || c > '_') {
				return nil, badKeys(s)
			}
			keys = append(keys, c&0x1f)
		default:
			return nil, badKeys(s)
		}
	}
	return keys, nil
}

func badKeys(s string) error {
	return moss.Errorf(moss.Invalid, "Invalid detach keys (%s) provided: want keys such as a or ctrl-a with commas between them", s)
}
