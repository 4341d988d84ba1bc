package stdio

import (
	"context"
	"os"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Store is the service manager's descriptor store (sd_pid_notify_with_fds(3)).
type Store interface {
	// Put stores duplicates of files under a name.
	Put(name string, files ...*os.File) error
	// Barrier returns when everything put so far is stored.
	Barrier(ctx context.Context) error
	// Remove takes a name out of the store; nil when it is not there.
	Remove(name string) error
	// Take hands over, once, the files that an earlier daemon stored under a
	// name. The store keeps its own duplicates.
	Take(name string) []*os.File
	// Names lists what was inherited and not taken yet.
	Names() []string
}

// The ends of a stream, as the store knows them.
const (
	endIn    = ".in"
	endOut   = ".out"
	endErr   = ".err"
	endTTY   = ".tty"
	endStash = ".stash"
)

// streamOf returns the stream that a name in the store belongs to; false for
// names that are not ours.
func streamOf(name string) (moss.StreamID, bool) {
	id, end, ok := strings.Cut(name, ".")
	if !ok || id == "" {
		return "", false
	}
	switch "." + end {
	case endIn, endOut, endErr, endTTY, endStash:
		return moss.StreamID(id), true
	}
	return "", false
}

// noStore stands for a store where there is none.
type noStore struct{}

func (noStore) Put(string, ...*os.File) error { return nil }
func (noStore) Barrier(context.Context) error { return nil }
func (noStore) Remove(string) error           { return nil }
func (noStore) Take(string) []*os.File        { return nil }
func (noStore) Names() []string               { return nil }

// take returns the one file of a name; nil where there is none. Were there
// several, the last is the one in use.
func take(s Store, name string) *os.File {
	var f *os.File
	for _, g := range s.Take(name) {
		if f != nil {
			_ = f.Close() // a duplicate
		}
		f = g
	}
	return f
}
