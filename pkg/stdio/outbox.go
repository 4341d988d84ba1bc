package stdio

import (
	"sync"
	"sync/atomic"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxQueued bounds, in bytes, what waits for a slow client before the process
// has to wait too.
const maxQueued = 1 << 20

var buffers = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// chunk is a piece of output that several clients may have to write.
type chunk struct {
	kind moss.StreamKind
	data []byte
	buf  *[]byte // goes back to the pool after the last client; may be nil
	refs atomic.Int32
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 && c.buf != nil {
		buffers.Put(c.buf)
		c.buf = nil
	}
}

// outbox is the output that waits for one client.
type outbox struct {
	mu      sync.Mutex
	changed sync.Cond
	queue   []*chunk
	size    int  // bytes in queue or being written
	free    bool // no bound any more: the process has ended
	ended   bool // nothing comes any more
	gone    bool // the client has left
}

func newOutbox() *outbox {
	o := &outbox{}
	o.changed.L = &o.mu
	return o
}

// push queues a chunk, waiting while the box is full, and takes over one
// reference to it.
func (o *outbox) push(c *chunk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.size >= maxQueued && !o.free && !o.gone && !o.ended {
		o.changed.Wait()
	}
	if o.gone || o.ended {
		c.release()
		return
	}
	o.queue = append(o.queue, c)
	o.size += len(c.data)
	o.changed.Broadcast()
}

// next waits for chunks; none at the end.
func (o *outbox) next() []*chunk {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) == 0 && !o.ended && !o.gone {
		o.changed.Wait()
	}
	if o.gone {
		o.dropLocked()
	}
	q := o.queue
	o.queue = nil
	return q
}

// wrote makes room again for a chunk, and says whether to go on.
func (o *outbox) wrote(c *chunk) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(c.data)
	c.release()
	o.changed.Broadcast()
	return !o.gone
}

// unbound lets everything in without waiting.
func (o *outbox) unbound() { o.set(&o.free) }

// end says that nothing comes any more; what is queued is still written.
func (o *outbox) end() { o.set(&o.ended) }

// leave says that nothing will be written any more.
func (o *outbox) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = true
	o.dropLocked()
	o.changed.Broadcast()
}

func (o *outbox) dropLocked() {
	for _, c := range o.queue {
		c.release()
	}
	o.queue = nil
}

func (o *outbox) set(flag *bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*flag = true
	o.changed.Broadcast()
}
