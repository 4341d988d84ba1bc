package records

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"go.etcd.io/bbolt"
)

// journal is a second, plain copy of what the durable database has, from which
// a damaged one is made anew: a line for each record, and one more for each
// change since. It is written after the database and never waited for.
//
// Its last line after a clean end has the number of the database's last
// transaction. Where that is not the database's own, as after a kill, the
// journal is written anew: the database is right while it can be read.
type journal struct {
	path string

	mu          sync.Mutex // held to write a line, never over a sync
	f           *os.File   // nil: it cannot be written, and is written anew at the next start
	base, grown int64      // bytes written at once, and since

	rewriting sync.WaitGroup
	anew      bool     // it is being written anew, by one goroutine
	ending    bool     // and no more behind anyone's back
	late      []byte   // lines for the new one, while it gets what the database has
	recording bool     // they are kept
	next      *os.File // the new one after that: it gets lines as f does, until it takes its place
}

// entry is a line. A record without a value is deleted.
type entry struct {
	Bucket string  `json:"b,omitempty"`
	Key    string  `json:"k,omitempty"`
	Value  *string `json:"v,omitempty"`
	Closed int     `json:"closed,omitempty"` // after this transaction
}

// contents are the records by bucket and key.
type contents map[string]map[string]string

// readJournal gives the newest of each record, and the transaction that the
// last line tells of, 0 for none. A line cut short is as if it had not been
// written.
func readJournal(path string) (all contents, closed int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // only read
	all = contents{}
	for r := bufio.NewReaderSize(f, 64<<10); ; {
		line, err := r.ReadBytes('\n')
		var e entry
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			all.take(e)
			closed = e.Closed
		default:
			closed = 0 // it is the last one for now
		}
		if errors.Is(err, io.EOF) {
			return all, closed, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

func (c contents) take(e entry) {
	switch {
	case e.Bucket == "":
	case e.Value == nil:
		delete(c[e.Bucket], e.Key)
	default:
		if c[e.Bucket] == nil {
			c[e.Bucket] = map[string]string{}
		}
		c[e.Bucket][e.Key] = *e.Value
	}
}

// lastClosed is the transaction that the last line tells of, without reading all.
func lastClosed(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // only read
	const tail = 64
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	b := make([]byte, min(tail, st.Size()))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		return 0
	}
	start := len(b) - 1 // of the last line
	for start > 0 && b[start-1] != '\n' {
		start--
	}
	var e entry
	if start < 0 || json.Unmarshal(b[start:], &e) != nil {
		return 0
	}
	return e.Closed
}

// open goes on with the journal where it is db's, and writes it anew where it is not.
func (j *journal) open(db *bbolt.DB) error {
	last, err := lastTransaction(db)
	if err != nil {
		return err
	}
	if lastClosed(j.path) != last {
		return j.writeAnew(db)
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.f, j.base = f, st.Size()
	return nil
}

func lastTransaction(db *bbolt.DB) (n int, err error) {
	err = db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
	return n, err
}

// writeAnew makes a journal of what the database has and puts it in the place of
// the one there is. What changes meanwhile is in both: its lines come after those
// of the database, which may know of it already. One caller at a time.
func (j *journal) writeAnew(db *bbolt.DB) error {
	f, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	j.record()
	size, err := j.copyRecords(f, db)
	if err == nil {
		err = j.follow(f)
	}
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		j.giveUp()
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return j.replace(f, size)
}

// record keeps the lines to come for the new journal.
func (j *journal) record() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.late, j.recording = nil, true
}

// follow gives the new journal what has come since record, and then each line as it comes.
func (j *journal) follow(f *os.File) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	late := j.late
	j.late, j.recording = nil, false
	if _, err := f.Write(late); err != nil {
		return err
	}
	j.next = f
	return nil
}

func (j *journal) giveUp() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.late, j.recording, j.next = nil, false, nil
}

// replace goes on with the new journal alone.
func (j *journal) replace(f *os.File, size int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil {
		_ = j.f.Close() // its file is gone
	}
	if j.next == nil { // it lacks a line
		j.f = nil
		return f.Close()
	}
	j.f, j.next, j.base, j.grown = f, nil, size, 0
	return nil
}

// copyRecords writes what the database has, to the disk. Of a container whose
// record is broken it is what the old journal has: Load mends it with that.
func (j *journal) copyRecords(f *os.File, db *bbolt.DB) (size int64, err error) {
	old := sync.OnceValue(func() map[string]string {
		all, _, err := readJournal(j.path)
		if err != nil {
			return nil
		}
		return all[string(bucketContainers)]
	})
	w := &counted{w: bufio.NewWriterSize(f, 64<<10)}
	out := json.NewEncoder(w)
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				value := string(v)
				if bytes.Equal(bucket, bucketContainers) && !json.Valid(v) {
					value = cmp.Or(old()[string(k)], value)
				}
				return out.Encode(entry{Bucket: string(bucket), Key: string(k), Value: &value})
			})
		})
	})
	if err == nil {
		err = w.w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return w.n, err
}

type counted struct {
	w *bufio.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// mostGrown bounds what a journal has of old values.
const mostGrown = 1 << 20

// note takes down a change that the database has; a nil value is a deletion.
// Nobody waits for a journal that is written anew.
func (j *journal) note(db *bbolt.DB, bucket []byte, key string, value []byte) {
	e := entry{Bucket: string(bucket), Key: key}
	if value != nil {
		text := string(value)
		e.Value = &text
	}
	line := e.line()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writeLocked(line)
	if j.f == nil || j.anew || j.ending || j.grown <= max(mostGrown, j.base) {
		return
	}
	j.anew = true
	j.rewriting.Go(func() {
		err := j.writeAnew(db)
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.anew = false; err != nil {
			j.grown = 0 // it is whole as it is: try again later
		}
	})
}

func (e entry) line() []byte {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // of strings and a number
	}
	return append(line, '\n')
}

// writeLocked appends a line; after a failure the journal is left alone, and not
// taken for whole. j.mu is held.
func (j *journal) writeLocked(line []byte) {
	if j.recording {
		j.late = append(j.late, line...)
	}
	if j.next != nil {
		if _, err := j.next.Write(line); err != nil {
			j.next = nil // writeAnew closes it
		}
	}
	if j.f == nil {
		return
	}
	n, err := j.f.Write(line)
	j.grown += int64(n)
	if err != nil {
		_ = j.f.Close()
		j.f = nil
	}
}

// close says in the journal that it has all that the database has.
func (j *journal) close(db *bbolt.DB) error {
	j.mu.Lock()
	j.ending = true
	j.mu.Unlock()
	j.rewriting.Wait()
	if j.f == nil {
		return nil
	}
	last, err := lastTransaction(db)
	if err != nil {
		return err
	}
	if j.grown > j.base {
		if err := j.writeAnew(db); err != nil {
			return errors.Join(err, j.f.Close())
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.writeLocked(entry{Closed: last}.line()); j.f == nil {
		return nil
	}
	err = j.f.Close()
	j.f = nil
	return err
}
