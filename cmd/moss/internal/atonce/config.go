package atonce

import (
	"errors"
	"syscall"
)

// mostConfig is how much of a configuration is read here.
const mostConfig = 1 << 20

// configured says whether docker's configuration may have what an exec heeds, or
// what command exec would complain about.
func configured(getenv func(string) string) bool {
	dir := getenv("DOCKER_CONFIG")
	if home := getenv("HOME"); dir == "" && home != "" {
		dir = home + "/.docker"
	}
	if getenv("DOCKER_AUTH_CONFIG") != "" {
		return true
	}
	if dir == "" {
		return false
	}
	text, err := read(dir + "/config.json")
	return !errors.Is(err, syscall.ENOENT) && (err != nil || !unconcerned(text))
}

// read reads a file with three system calls.
func read(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd) // it was only read
	var is syscall.Stat_t
	if err := syscall.Fstat(fd, &is); err != nil {
		return nil, err
	}
	if is.Mode&syscall.S_IFMT != syscall.S_IFREG || is.Size > mostConfig {
		return nil, syscall.EINVAL
	}
	text := make([]byte, is.Size)
	if n, err := syscall.Read(fd, text); err != nil || n != len(text) {
		return nil, errors.Join(syscall.EIO, err)
	}
	return text, nil
}

// unconcerned says whether a configuration of docker's is one that package
// dockerconfig reads, without keys to detach with: an exec heeds nothing else of
// it. It is sure of a yes; of what is rare it says no.
func unconcerned(text []byte) bool {
	if len(text) == 0 {
		return true
	}
	s := scanner{text: text}
	object := func() bool { return s.object(s.value) }
	ok := s.members(func(name string) bool {
		switch name {
		case "detachKeys":
			return false
		case "auths":
			return s.object(object)
		case "credHelpers":
			return s.object(s.string)
		case "credsStore":
			return s.string()
		}
		return s.value()
	})
	return ok && s.next() == 0 && s.at == len(text)
}

// scanner goes through JSON. Its methods pass by what they are called after and
// say whether that is there.
type scanner struct {
	text  []byte
	at    int
	depth int
}

// next is the first character that is no space; 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) char(want byte) bool {
	if s.next() != want || s.at == len(s.text) {
		return false
	}
	s.at++
	return true
}

func (s *scanner) value() bool {
	switch s.next() {
	case '{':
		return s.object(s.value)
	case '[':
		return s.list('[', ']', s.value)
	case '"':
		return s.string()
	}
	return s.word()
}

// object passes by an object with values of a kind.
func (s *scanner) object(value func() bool) bool {
	return s.members(func(string) bool { return value() })
}

// members passes by an object with values that depend on their names.
func (s *scanner) members(value func(name string) bool) bool {
	return s.list('{', '}', func() bool {
		s.next()
		from := s.at
		if !s.string() {
			return false
		}
		name := string(s.text[from+1 : s.at-1])
		return s.char(':') && value(name)
	})
}

func (s *scanner) list(begin, end byte, element func() bool) bool {
	const deepest = 100
	if s.depth++; s.depth > deepest {
		return false
	}
	defer func() { s.depth-- }()
	if !s.char(begin) {
		return false
	}
	if s.char(end) {
		return true
	}
	for {
		if !element() {
			return false
		}
		if s.char(end) {
			return true
		}
		if !s.char(',') {
			return false
		}
	}
}

// string passes by a string. One with a backslash is none here: it may be a name
// in disguise.
func (s *scanner) string() bool {
	if !s.char('"') {
		return false
	}
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return true
		case c == '\\', c < ' ':
			return false
		}
	}
	return false
}

// word passes by true, false, null or a whole number.
func (s *scanner) word() bool {
	s.next()
	from := s.at
	for ; s.at < len(s.text); s.at++ {
		if c := s.text[s.at]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			break
		}
	}
	word := string(s.text[from:s.at])
	switch word {
	case "true", "false", "null", "0":
		return true
	}
	for i := range len(word) {
		if word[i] < '0' || word[i] > '9' {
			return false
		}
	}
	return word != "" && word[0] != '0'
}
