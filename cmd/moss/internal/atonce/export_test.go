package atonce

import "io"

// The tests are another package: what they import would come before this one.

var HeedSIGTERM = heedSIGTERM

func Parses(args []string, getenv func(string) string) bool {
	_, ok := parse(args, getenv)
	return ok
}

func Request(user, dir string, env, command []string) []byte {
	return (&call{user: user, dir: dir, env: env, command: command}).request()
}

func Late(fd int, late func()) io.Reader {
	c := &conn{fd: fd}
	c.beLate(late)
	return c
}

func Unconcerned(text []byte) bool { return unconcerned(text) }
