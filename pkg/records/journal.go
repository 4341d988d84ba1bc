package records

import (
	"bufio"
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

	mu          sync.Mutex
	f           *os.File // nil: it cannot be written, and is written anew at the next start
	base, grown int64    // bytes written at once, and since
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
		if len(line) > 1 && json.Unmarshal(line, &e) == nil {
			all.take(e)
			closed = e.Closed
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
	j.mu.Lock()
	defer j.mu.Unlock()
	last, err := lastTransaction(db)
	if err != nil {
		return err
	}
	if lastClosed(j.path) != last {
		return j.rewriteLocked(db)
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.f, j.base = f, st.Size()
	return nil
}

func lastTransaction(db *bbolt.DB) (n int, err error) {
	err = db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
	return n, err
}

// rewriteLocked writes what the database has; j.mu is held.
func (j *journal) rewriteLocked(db *bbolt.DB) (err error) {
	f, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := &counted{w: bufio.NewWriterSize(f, 64<<10)}
	out := json.NewEncoder(w)
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				value := string(v)
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
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		return err
	}
	if j.f != nil {
		_ = j.f.Close() // its file is gone
	}
	j.f, j.base, j.grown = f, w.n, 0
	return nil
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
func (j *journal) note(db *bbolt.DB, bucket []byte, key string, value []byte) {
	e := entry{Bucket: string(bucket), Key: key}
	if value != nil {
		text := string(value)
		e.Value = &text
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return
	}
	if j.writeLocked(e); j.f != nil && j.grown > max(mostGrown, j.base) {
		if err := j.rewriteLocked(db); err != nil {
			j.grown = 0 // it is whole as it is: try again later
		}
	}
}

// writeLocked appends a line; after a failure the journal is left alone, and not
// taken for whole. j.mu is held.
func (j *journal) writeLocked(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		var n int
		n, err = j.f.Write(append(line, '\n'))
		j.grown += int64(n)
	}
	if err != nil {
		_ = j.f.Close()
		j.f = nil
	}
}

// close says in the journal that it has all that the database has.
func (j *journal) close(db *bbolt.DB) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	last, err := lastTransaction(db)
	if err != nil {
		return err
	}
	if j.grown > j.base {
		if err := j.rewriteLocked(db); err != nil {
			return errors.Join(err, j.f.Close())
		}
	}
	if j.writeLocked(entry{Closed: last}); j.f == nil {
		return nil
	}
	return j.f.Close()
}
