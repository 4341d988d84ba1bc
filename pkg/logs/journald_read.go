package logs

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/logs/journal"
	"github.com/moss-containers/moss/pkg/moss"
)

// drainTime is how long a reader waits for entries that journald has not
// written yet; those that it has refused never come.
const drainTime = time.Second

// readJournald is Read for the driver journald.
func (l *Logs) readJournald(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error {
	l.mu.Lock()
	run := l.journald[c.ID]
	l.mu.Unlock()
	j, err := journal.OpenAll(l.journal.Dirs, fieldID, string(c.ID))
	if err != nil {
		return moss.Errorf(moss.Unavailable, "cannot read the log of %s: %v", c.ID.Short(), err)
	}
	defer func() { _ = j.Close() }() // it was only read
	r := &journaldReader{j: j, q: q, fn: fn, run: run}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.seek(ctx); err != nil {
		return err
	}
	if err = r.rest(ctx); err == nil && q.Follow {
		err = r.follow(ctx)
	}
	if errors.Is(err, errPast) {
		return nil
	}
	return err
}

type journaldReader struct {
	j    *journal.Reader
	q    moss.LogQuery
	fn   func(moss.LogLine) error
	run  *journaldRun // nil where this daemon has not seen one
	last journal.Entry
}

// settle waits until the journal has what the run has sent so far, so that
// the tail is the tail.
func (r *journaldReader) settle(outer context.Context) error {
	if r.run == nil {
		return nil
	}
	epoch, ordinal := r.run.last()
	if ordinal == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(outer, drainTime)
	defer cancel()
	for {
		if err := r.j.SeekEnd(); err != nil {
			return err
		}
		e, ok, err := r.j.Previous()
		if err != nil || ok && arrived(e, epoch, ordinal) {
			return err
		}
		if err := r.j.Wait(ctx); err != nil {
			if outer.Err() != nil {
				return outer.Err()
			}
			return nil // it has refused some
		}
	}
}

// arrived says that an entry is the one of a run, or a later one.
func arrived(e journal.Entry, epoch string, ordinal uint64) bool {
	n, err := strconv.ParseUint(e.Fields[fieldOrdinal], 10, 64)
	return err == nil && e.Fields[fieldEpoch] == epoch && n >= ordinal
}

// seek goes to where the query begins.
func (r *journaldReader) seek(outer context.Context) error {
	if r.q.Tail < 0 {
		return r.j.SeekTime(r.q.Since) // no line is older than its entry
	}
	if err := r.j.SeekEnd(); err != nil {
		return err
	}
	var seen [3]bool
	for left := r.q.Tail; ; {
		e, ok, err := r.j.Previous()
		if err != nil || !ok {
			return err
		}
		if err := outer.Err(); err != nil {
			return err
		}
		l := lineOf(e)
		if !wanted(r.q, l.Stream) {
			continue
		}
		if !l.Partial || !seen[l.Stream] {
			if left == 0 {
				_, _, err := r.j.Next()
				return err
			}
			left--
		}
		seen[l.Stream] = true
	}
}

// follow hands out what comes until the run ends.
func (r *journaldReader) follow(outer context.Context) error {
	if r.run == nil {
		return nil
	}
	ctx, stop := context.WithCancel(outer)
	if !r.q.Until.IsZero() {
		ctx, stop = context.WithDeadline(outer, r.q.Until)
	}
	defer stop()
	go func() {
		select {
		case <-r.run.ended:
			stop()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		if err := r.rest(outer); err != nil {
			return err
		}
		if err := r.j.Wait(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if outer.Err() != nil {
		return outer.Err()
	}
	return r.drain(outer)
}

// drain hands out what an ended run has sent and journald has not written yet.
func (r *journaldReader) drain(outer context.Context) error {
	epoch, ordinal := r.run.last()
	ctx, cancel := context.WithTimeout(outer, drainTime)
	defer cancel()
	for {
		if err := r.rest(outer); err != nil || ordinal == 0 || arrived(r.last, epoch, ordinal) {
			return err
		}
		if r.j.Wait(ctx) != nil {
			return outer.Err()
		}
	}
}

// rest hands out what there is.
func (r *journaldReader) rest(outer context.Context) error {
	for {
		e, ok, err := r.j.Next()
		if err != nil || !ok {
			return err
		}
		if err := outer.Err(); err != nil {
			return err
		}
		r.last = e
		l := lineOf(e)
		if !wanted(r.q, l.Stream) || l.Time.Before(r.q.Since) {
			continue
		}
		if !r.q.Until.IsZero() && l.Time.After(r.q.Until) {
			return errPast
		}
		if err := r.fn(l); err != nil {
			return err
		}
	}
}

// lineOf is the line that an entry stands for.
func lineOf(e journal.Entry) moss.LogLine {
	l := moss.LogLine{Stream: moss.Stdout, Time: e.Time, Partial: e.Fields[fieldPartial] == "true"}
	if e.Fields["PRIORITY"] == "3" {
		l.Stream = moss.Stderr
	}
	if t, err := time.Parse(time.RFC3339Nano, e.Fields[fieldStamp]); err == nil {
		l.Time = t.UTC()
	}
	l.Text = append(make([]byte, 0, len(e.Fields["MESSAGE"])+1), e.Fields["MESSAGE"]...)
	if !l.Partial {
		l.Text = append(l.Text, '\n')
	}
	for k, v := range e.Fields {
		if strings.HasPrefix(k, "_") || notAttrs[k] {
			continue
		}
		if l.Attrs == nil {
			l.Attrs = map[string]string{}
		}
		l.Attrs[k] = v
	}
	return l
}

// notAttrs are the fields that are no attributes of the user's.
var notAttrs = map[string]bool{
	"MESSAGE": true, "PRIORITY": true, "SYSLOG_IDENTIFIER": true, fieldStamp: true, "IMAGE_NAME": true,
	"CONTAINER_ID": true, fieldID: true, "CONTAINER_NAME": true, "CONTAINER_TAG": true, fieldEpoch: true, fieldOrdinal: true,
	fieldPartial: true, fieldPartID: true, fieldPart: true, fieldLast: true,
}
