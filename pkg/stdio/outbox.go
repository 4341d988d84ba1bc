package stdio

import (
	"sync"
	"sync/atomic"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxQueued bounds, in bytes, what waits for a slow client in memory. What is
// more goes to disk, or has the process wait where an outbox has no disk.
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

// outbox is the output that waits for one client: the older part in memory, the
// rest, where there is one, on disk. Chunks of one pump stay in order.
type outbox struct {
	spilling sync.Mutex // a writer to the disk at a time; taken before mu

	mu      sync.Mutex
	changed sync.Cond
	queue   []*chunk
	size    int    // bytes in queue or being written
	disk    disk   // where what is too much for the memory goes; none has the process wait
	spill   *spill // what went there and was not read yet; nil for nothing
	free    bool   // no bound any more: the process has ended
	ended   bool   // nothing comes any more
	gone    bool   // the client has left
	failed  error  // why it was ended before its time
}

func newOutbox() *outbox {
	o := &outbox{}
	o.changed.L = &o.mu
	return o
}

// spillTo has the box take to the disk what is too much, rather than have the
// process wait.
func (o *outbox) spillTo(d disk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.disk = d
	o.changed.Broadcast()
}

// push queues a chunk, and takes over one reference to it. Without a disk it
// waits while the box is full.
func (o *outbox) push(c *chunk) {
	if !o.remember(c) {
		o.write(c)
	}
}

// remember queues a chunk in memory, or has no room there.
func (o *outbox) remember(c *chunk) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.size >= maxQueued && !o.disk.there() && !o.free && !o.gone && !o.ended {
		o.changed.Wait()
	}
	if o.gone || o.ended {
		c.release()
		return true
	}
	if o.disk.there() && (o.spill != nil || o.size >= maxQueued) {
		return false
	}
	o.queue = append(o.queue, c)
	o.size += len(c.data)
	o.changed.Broadcast()
	return true
}

// write takes a chunk to the disk. A client for which that has no room, either,
// is ended: the process never waits for it.
func (o *outbox) write(c *chunk) {
	o.spilling.Lock()
	defer o.spilling.Unlock()
	defer c.release()
	o.mu.Lock()
	s, d, over := o.spill, o.disk, o.gone || o.ended
	o.mu.Unlock()
	if over {
		return
	}
	var err error
	if s == nil {
		if s, err = d.open(); err == nil {
			o.mu.Lock()
			if over = o.gone || o.ended; !over {
				o.spill = s
			}
			o.mu.Unlock()
			if over {
				s.close()
				return
			}
		}
	}
	n := int64(0)
	if err == nil {
		o.mu.Lock()
		used := s.tail - s.head
		o.mu.Unlock()
		n, err = s.append(c, used)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.gone || o.ended || err == nil && o.spill != s: // it left, or has flushed this
	case err != nil && o.spill == s:
		o.failed, o.ended = err, true
		o.dropLocked()
	case err == nil:
		s.tail += n
	}
	o.changed.Broadcast()
}

// next waits for chunks; none at the end.
func (o *outbox) next() []*chunk {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		switch {
		case o.gone:
			o.dropLocked()
			return nil
		case len(o.queue) > 0:
			q := o.queue
			o.queue = nil
			return q
		case o.spill != nil && o.spill.head < o.spill.tail:
			if c := o.readLocked(); c != nil {
				return []*chunk{c}
			}
		case o.ended:
			return nil
		default:
			o.changed.Wait()
		}
	}
}

// readLocked takes the oldest chunk from the disk. It gives the lock away
// meanwhile; nil where the chunk is not wanted any more.
func (o *outbox) readLocked() *chunk {
	s, head := o.spill, o.spill.head
	o.mu.Unlock()
	c, n, err := s.read(head)
	o.mu.Lock()
	if o.spill != s {
		if c != nil {
			c.release()
		}
		return nil
	}
	if err != nil {
		o.failed, o.ended = err, true
		o.dropLocked()
		return nil
	}
	s.head += n
	o.size += len(c.data)
	if s.head == s.tail && o.spilling.TryLock() { // nobody adds to it
		s.close()
		o.spill = nil
		o.spilling.Unlock()
	}
	return c
}

// wrote makes room again for a chunk, and says whether to go on.
func (o *outbox) wrote(c *chunk) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(c.data)
	c.release()
	o.changed.Broadcast()
	return !o.gone && o.failed == nil
}

// unbound lets everything in without waiting.
func (o *outbox) unbound() { o.set(&o.free) }

// end says that nothing comes any more; what is queued is still written.
func (o *outbox) end() { o.set(&o.ended) }

// failure is why the client was ended before its time.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// flush forgets what waits, of a client so slow that some of it is on disk.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.spill != nil {
		o.dropLocked()
		o.changed.Broadcast()
	}
}

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
		o.size -= len(c.data)
		c.release()
	}
	o.queue = nil
	if o.spill != nil {
		o.spill.close()
		o.spill = nil
	}
}

func (o *outbox) set(flag *bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*flag = true
	o.changed.Broadcast()
}
