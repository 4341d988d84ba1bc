package logs

import (
	"errors"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// openRemote opens the log of a driver that sends to a server, and its cache.
func (l *Logs) openRemote(c *moss.Container, s settings) (moss.LogSink, error) {
	to, err := drivers[s.driver].dial(c)
	if err != nil {
		return nil, moss.Wrap(err, "initialize the logging driver", s.driver)
	}
	out, err := newLineSink(to, c.Dir)
	if err != nil || !s.cached {
		return out, err
	}
	cache, err := l.openFile(c)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return &tee{cache: cache, to: out}, nil
}

// mustReach says that a container does not start where its log cannot go. One
// that runs already is not left without its streams.
func mustReach(c *moss.Container) bool { return !c.State.Alive() }

// tee writes to a cache, too. It cannot be rewound: what was sent was sent.
type tee struct{ cache, to moss.LogSink }

func (t *tee) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	return errors.Join(t.cache.Write(kind, at, p), t.to.Write(kind, at, p))
}

func (t *tee) Close() error { return errors.Join(t.cache.Close(), t.to.Close()) }
