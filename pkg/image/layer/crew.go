package layer

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 128 << 10 // files up to it are made by the crew
	buffers    = 32        // of one layer
	maxCrew    = 4
)

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// crew makes small files while the tar is read on.
type crew struct {
	tree    *tree
	jobs    chan job
	slots   chan struct{} // buffers in use
	pending sync.WaitGroup
	workers sync.WaitGroup
	err     atomic.Pointer[error]
	u       *unpacker
}

// job is a small file.
type job struct {
	dir  *dir
	base string
	meta *meta
	buf  *[bufferSize]byte // nil for an empty one
	n    int
}

func hire(u *unpacker) *crew {
	c := &crew{u: u, tree: u.tree, jobs: make(chan job, 2*buffers), slots: make(chan struct{}, buffers)}
	for range min(max(runtime.NumCPU(), 2), maxCrew) {
		c.workers.Go(func() {
			for j := range c.jobs {
				c.do(j)
			}
		})
	}
	return c
}

// failure is the first error of a job.
func (c *crew) failure() error {
	if p := c.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (c *crew) fail(err error) {
	if err != nil {
		c.err.CompareAndSwap(nil, &err)
	}
}

// buffer waits for one.
func (c *crew) buffer() *[bufferSize]byte {
	c.slots <- struct{}{}
	return bufferPool.Get().(*[bufferSize]byte)
}

func (c *crew) giveBack(b *[bufferSize]byte) {
	bufferPool.Put(b)
	<-c.slots
}

// give hands over a job, whose directory stays open until it is done.
func (c *crew) give(j job) error {
	if _, err := c.tree.use(j.dir); err != nil {
		if j.buf != nil {
			c.giveBack(j.buf)
		}
		return err
	}
	c.pending.Add(1)
	c.jobs <- j
	return nil
}

// wait returns when all jobs are done.
func (c *crew) wait() error {
	c.pending.Wait()
	return c.failure()
}

// dismiss ends the crew after the last job.
func (c *crew) dismiss() error {
	close(c.jobs)
	c.workers.Wait()
	return c.failure()
}

func (c *crew) do(j job) {
	defer c.pending.Done()
	defer c.tree.release(j.dir)
	if j.buf != nil {
		defer c.giveBack(j.buf)
	}
	if c.failure() == nil {
		c.fail(c.make(j))
	}
}

func (c *crew) make(j job) error {
	fd, err := create(j.dir.fd, j.base, j.meta)
	if err != nil {
		return failed(j.dir.join(j.base), err)
	}
	err = c.fill(fd, j)
	if e := unix.Close(fd); err == nil && e != nil {
		err = failed(j.dir.join(j.base), e)
	}
	return err
}

func (c *crew) fill(fd int, j job) error {
	for done := 0; done < j.n; {
		n, err := unix.Write(fd, j.buf[done:j.n])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return failed(j.dir.join(j.base), err)
		}
		done += n
	}
	return c.dress(fd, j.dir, j.base, j.meta)
}

// dress sets owner, mode, attributes and times, where they are not right
// already, in the order in which one does not undo the other.
func (c *crew) dress(fd int, d *dir, base string, m *meta) error {
	if d.setgid || m.uid != 0 || m.gid != 0 {
		if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
			return c.u.ids.refused(d.join(base), m, err)
		}
	}
	if m.mode&0o7000 != 0 || m.mode&c.tree.umask != 0 {
		if err := unix.Fchmod(fd, m.mode); err != nil {
			return failed(d.join(base), err)
		}
	}
	for _, x := range m.xattrs {
		err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0)
		if err := c.u.xattrError(d.join(base), x, err); err != nil {
			return err
		}
	}
	if err := setTimes(fd, m); err != nil {
		return failed(d.join(base), err)
	}
	return nil
}
