package engine

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Attach joins a client to a container's streams; see api's interface. A
// container without a process can be attached to: it waits for the next run.
func (s Signals) Attach(ctx context.Context, ref string, a moss.AttachIO, logs, stream bool, attached func()) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	rec := c.record()
	if stream && rec.State == moss.StatePaused {
		return moss.Errorf(moss.Conflict, "container %s is paused, unpause the container before attach", rec.ID)
	}
	if logs {
		if err := s.replay(ctx, rec, a); err != nil {
			return err
		}
	}
	if !stream {
		attached()
		return nil
	}
	s.publish(rec, "attach", time.Now())
	err = s.Attacher.Attach(ctx, rec.ID.Streams(), a, attached)
	if errors.Is(err, ErrDetached) {
		s.publish(rec, "detach", time.Now())
		return nil
	}
	return err
}

// replay writes what was logged so far.
func (s Signals) replay(ctx context.Context, rec *moss.Container, a moss.AttachIO) error {
	q := moss.LogQuery{Stdout: a.Stdout != nil, Stderr: a.Stderr != nil, Tail: -1}
	return s.Logs.Read(ctx, rec, q, func(l moss.LogLine) error {
		to := a.Stdout
		if l.Stream == moss.Stderr {
			to = a.Stderr
		}
		if to == nil {
			to = io.Discard
		}
		_, err := to.Write(l.Text)
		return err
	})
}

// Resize sets the size of a container's terminal.
func (s Signals) Resize(_ context.Context, ref string, size moss.TermSize) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	rec := c.record()
	if !rec.State.Alive() {
		return moss.Errorf(moss.Conflict, "container %s is not running", rec.ID)
	}
	if err := s.Attacher.Resize(rec.ID.Streams(), size); err != nil {
		return err
	}
	s.publish(rec, "resize", time.Now(), "height", strconv.Itoa(int(size.Rows)), "width", strconv.Itoa(int(size.Cols)))
	return nil
}
