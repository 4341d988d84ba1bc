package transfer

import (
	"slices"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// fan hands the reports of one run to those who wait for it. Its zero value is
// ready. No method waits for a reader.
type fan struct {
	mu      sync.Mutex
	latest  []moss.Progress // one for each id, in the order in which they came up
	at      map[string]int  // in latest
	readers []*reader
}

// report is called by the work, from any goroutine.
func (f *fan) report(p moss.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, ok := f.at[p.ID]; ok {
		f.latest[i] = p
	} else {
		if f.at == nil {
			f.at = map[string]int{}
		}
		f.at[p.ID] = len(f.latest)
		f.latest = append(f.latest, p)
	}
	for _, r := range f.readers {
		r.add(p)
	}
}

func (f *fan) attach() *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &reader{signal: make(chan struct{}, 1)}
	for _, p := range f.latest {
		r.add(p)
	}
	f.readers = append(f.readers, r)
	return r
}

func (f *fan) detach(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers = slices.DeleteFunc(f.readers, func(o *reader) bool { return o == r })
}

// reader holds what one member has not seen yet.
type reader struct {
	signal chan struct{}

	mu      sync.Mutex
	pending []moss.Progress
}

// wake is nil, which never comes, for a nil reader.
func (r *reader) wake() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.signal
}

// add puts a further count in the place of the one before it. So what is
// pending is bounded by how often a status changes.
func (r *reader) add(p moss.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range slices.Backward(r.pending) {
		if o.ID != p.ID {
			continue
		}
		if o.Status == p.Status {
			r.pending[i] = p
			return
		}
		break
	}
	r.pending = append(r.pending, p)
	select {
	case r.signal <- struct{}{}:
	default: // it is awake already
	}
}

func (r *reader) deliver(progress func(moss.Progress)) {
	r.mu.Lock()
	batch := r.pending
	r.pending = nil
	r.mu.Unlock()
	for _, p := range batch {
		progress(p)
	}
}
