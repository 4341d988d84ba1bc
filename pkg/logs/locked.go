package logs

import (
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// locked lets one caller at a time at a sink.
type locked struct {
	mu   sync.Mutex
	sink moss.LogSink
}

func (l *locked) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink.Write(kind, at, p)
}

func (l *locked) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink.Close()
}
