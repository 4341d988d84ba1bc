package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss/dockerconfig"
)

// defaultDetachKeys are docker's: ctrl-p, ctrl-q.
var defaultDetachKeys = []byte{16, 17}

// detachSequence reads "ctrl-x,y" and the like.
func detachSequence(s string) ([]byte, error) {
	if s == "" {
		return defaultDetachKeys, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		name, control := strings.CutPrefix(key, "ctrl-")
		switch {
		case !control && len(key) == 1:
			keys = append(keys, key[0])
		case control && len(name) == 1 && name[0] >= 'a' && name[0] <= 'z':
			keys = append(keys, name[0]-'a'+1)
		case control && len(name) == 1 && strings.Contains("@[\\]^_", name):
			keys = append(keys, name[0]-'@')
		default:
			return nil, fmt.Errorf("cannot use the detach keys %q: %q is neither a character nor ctrl-a to ctrl-z or ctrl-@[\\]^_", s, key)
		}
	}
	return keys, nil
}

// detachKeys are those that the flag says, or else docker's configuration;
// empty stands for docker's own.
func (a *app) detachKeys(c *cli.Context) (string, error) {
	keys := c.String("detach-keys")
	if keys == "" {
		cfg, err := dockerconfig.Load(a.getenv)
		if err != nil { // what matters for nothing else here keeps nobody out
			fmt.Fprintln(a.err, "WARNING: "+message(err))
			return "", nil
		}
		keys = cfg.DetachKeys()
	}
	_, err := detachSequence(keys)
	return keys, err
}

// watcher passes on what it reads and calls found once the sequence has come by. The
// daemon takes the keys out of the stream; here they only tell a detach from an end.
type watcher struct {
	from  io.Reader
	keys  []byte
	at    int
	found func()
}

func (w *watcher) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	for _, b := range p[:n] {
		switch b {
		case w.keys[w.at]:
			w.at++
		case w.keys[0]:
			w.at = 1
		default:
			w.at = 0
		}
		if w.at == len(w.keys) {
			w.at = 0
			w.found()
		}
	}
	return n, err
}
