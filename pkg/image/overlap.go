package image

import "io"

// overlapped writes to a slow writer beside the one who makes what is written:
// files are read and digested while the client takes what came before.
type overlapped struct {
	cur   []byte
	empty chan []byte
	full  chan []byte
	done  chan struct{} // closed when nothing is written any more
	err   error         // why; to be read after done
}

const (
	overlapSize  = 512 << 10
	overlapCount = 3
)

func newOverlapped(w io.Writer) *overlapped {
	o := &overlapped{cur: make([]byte, 0, overlapSize), empty: make(chan []byte, overlapCount), full: make(chan []byte, overlapCount), done: make(chan struct{})}
	for range overlapCount - 1 {
		o.empty <- make([]byte, 0, overlapSize)
	}
	go o.run(w)
	return o
}

func (o *overlapped) run(w io.Writer) {
	defer close(o.done)
	for b := range o.full {
		if _, o.err = w.Write(b); o.err != nil {
			return
		}
		o.empty <- b[:0]
	}
}

func (o *overlapped) Write(p []byte) (int, error) {
	all := len(p)
	for {
		n := min(len(p), overlapSize-len(o.cur))
		o.cur = append(o.cur, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return all, nil
		}
		if err := o.flush(); err != nil {
			return all - len(p), err
		}
	}
}

func (o *overlapped) flush() error {
	select {
	case o.full <- o.cur:
	case <-o.done:
		return o.err
	}
	select {
	case o.cur = <-o.empty:
		return nil
	case <-o.done:
		return o.err
	}
}

// close returns when everything is written, or will never be.
func (o *overlapped) close() error {
	select {
	case o.full <- o.cur:
	case <-o.done:
	}
	close(o.full)
	<-o.done
	return o.err
}
