package stdio

import (
	"errors"
	"fmt"
	"os"

	"github.com/moss-containers/moss/pkg/moss"
)

// ends are our ends of a stream.
type ends struct {
	in       *os.File // the process's input; with a terminal that
	out, err *source
	tty      *os.File
	console  *console // while the terminal is awaited
	journal  *journal // nil where output is not logged or not kept
	stored   []string // what of it the store has
}

// makeEnds makes the ends of a new run, ours and the process's.
func (h *Hub) makeEnds(id moss.StreamID, spec moss.StdioSpec, sink moss.LogSink) (e *ends, child moss.ChildStdio, err error) {
	e = &ends{}
	defer func() {
		if err != nil {
			child.Close()
			err = errors.Join(err, e.close(), h.forget(id, e.stored))
		}
	}()
	if spec.Persist && h.cfg.Store != nil && sink != nil {
		if e.journal, err = openJournal(h.markPath(id), nil, sink, &h.spare); err != nil {
			return e, child, err
		}
		if err = h.putStash(id, e); err != nil {
			return e, child, err
		}
	}
	if spec.TTY {
		if e.console, err = listenConsole(h.cfg.Console, id); err == nil {
			child.ConsoleSocket = e.console.path
		}
		return e, child, err
	}
	if spec.Stdin {
		e.in, child.Stdin, err = pipe(false)
	} else {
		child.Stdin, err = os.Open(os.DevNull)
	}
	if err != nil {
		return e, child, err
	}
	out, theirs, err := pipe(true)
	e.out, child.Stdout = h.newSource(out), theirs
	if err != nil {
		return e, child, err
	}
	errs, theirs, err := pipe(true)
	e.err, child.Stderr = h.newSource(errs), theirs
	if err != nil {
		return e, child, err
	}
	if !spec.Persist {
		return e, child, nil
	}
	if e.in != nil {
		err = h.put(id, e, endIn, e.in)
	}
	err = errors.Join(err, h.put(id, e, endOut, out), h.put(id, e, endErr, errs))
	return e, child, err
}

// put stores an end.
func (h *Hub) put(id moss.StreamID, e *ends, end string, f *os.File) error {
	if h.cfg.Store == nil {
		return nil
	}
	e.stored = append(e.stored, end)
	return h.store.Put(string(id)+end, f)
}

// putStash stores the stash, which no os.File has.
func (h *Hub) putStash(id moss.StreamID, e *ends) error {
	f, err := duplicate(e.journal.stash)
	if err != nil {
		return err
	}
	return errors.Join(h.put(id, e, endStash, f), f.Close())
}

// findEnds takes the ends of a running process from the store. The ends that
// are there are returned with an error for those that are not.
func (h *Hub) findEnds(id moss.StreamID, spec moss.StdioSpec, sink moss.LogSink) (*ends, error) {
	e := &ends{}
	var errs []error
	mine := func(end string) *os.File {
		e.stored = append(e.stored, end)
		f, err := adopt(take(h.store, string(id)+end))
		if err != nil {
			errs = append(errs, fmt.Errorf("the descriptor store has no usable %s%s: %w", short(id), end, err))
		}
		return f
	}
	if spec.TTY {
		e.tty = mine(endTTY)
		if spec.Stdin {
			e.in = e.tty
		}
	} else {
		e.out, e.err = h.newSource(mine(endOut)), h.newSource(mine(endErr))
		// An input that its one client has closed is not in the store any more.
		if f := take(h.store, string(id)+endIn); f != nil && spec.Stdin {
			e.stored = append(e.stored, endIn)
			in, err := adopt(f)
			e.in = in
			errs = append(errs, err)
		} else if spec.Stdin && !spec.StdinOnce {
			errs = append(errs, fmt.Errorf("the descriptor store has no %s%s", short(id), endIn))
		}
	}
	errs = append(errs, h.findJournal(id, sink, e))
	return e, errors.Join(errs...)
}

// findJournal continues the journal of an earlier daemon.
func (h *Hub) findJournal(id moss.StreamID, sink moss.LogSink, e *ends) (err error) {
	old := take(h.store, string(id)+endStash)
	if old != nil {
		e.stored = append(e.stored, endStash)
	}
	if sink == nil || h.cfg.Store == nil {
		if old != nil {
			err = old.Close()
		}
		return err
	}
	e.journal, err = openJournal(h.markPath(id), old, sink, &h.spare)
	if err == nil && old == nil {
		err = h.putStash(id, e)
	}
	return err
}

func (e *ends) close() error {
	var errs []error
	if e.console != nil {
		e.console.close()
	}
	if e.in == e.tty {
		e.in = nil
	}
	for _, f := range []*os.File{e.in, e.tty} {
		if f == nil {
			continue
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, s := range []*source{e.out, e.err} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if e.journal != nil {
		errs = append(errs, e.journal.close())
	}
	return errors.Join(errs...)
}
