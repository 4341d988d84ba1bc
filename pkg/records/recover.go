package records

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/moss-containers/moss/pkg/moss"
)

// damagedError says that a file is no database, or one with holes.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

// guarded turns the panics that bbolt has for damage, and the faults of a file
// that is shorter than it says, into an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &damagedError{fmt.Errorf("%v", r)}
		}
	}()
	return fn()
}

// blame tells damage from what hinders the opening.
func blame(err error) error {
	_, file := errors.AsType[*fs.PathError](err)
	_, system := errors.AsType[syscall.Errno](err)
	if file || system || errors.Is(err, bbolterrors.ErrTimeout) {
		return err
	}
	return &damagedError{err}
}

// verify reads everything: what bbolt does not look at when it opens a file would
// end the daemon later.
func verify(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return &damagedError{fmt.Errorf("it has no %q", name)}
			}
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			var last, value []byte
			return b.ForEach(func(k, v []byte) error {
				if last != nil && bytes.Compare(last, k) >= 0 {
					return &damagedError{fmt.Errorf("the keys of %q are in disorder", name)}
				}
				last, value = append(last[:0], k...), append(value[:0], v...) // each byte is touched
				return nil
			})
		})
	})
}

// remake puts the damaged database aside and makes one of the journal's records.
// It says where the old one is.
func (j *journal) remake(path string, l layout, now time.Time, damage error) (_ *bbolt.DB, told string, err error) {
	all, _, err := readJournal(j.path)
	if err != nil || len(all) == 0 {
		return nil, "", errors.Join(damage, err)
	}
	// Made beside it, so that a kill in between changes nothing.
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", errors.Join(damage, err)
	}
	db, err := bbolt.Open(fresh, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, "", errors.Join(damage, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucket(name)
			if err != nil {
				return err
			}
			for k, v := range all[string(name)] {
				if err := b.Put([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, "", errors.Join(damage, err, os.Remove(fresh))
	}
	aside := path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	if err := os.Rename(path, aside); errors.Is(err, fs.ErrNotExist) {
		aside = "nothing: it was gone"
	} else if err != nil {
		return nil, "", errors.Join(damage, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, "", errors.Join(damage, err)
	}
	if db, err = open(path, false, l); err != nil {
		return nil, "", err
	}
	return db, fmt.Sprintf("the records in %s were damaged (%v) and are made anew from %s: %d containers; the old file is kept as %s",
		path, damage, j.path, len(all[string(bucketContainers)]), aside), nil
}

// mend takes the records that cannot be read from the journal, as far as it has them.
func (s *Store) mend(bad map[string]error, newest map[string]*moss.Container) error {
	if len(bad) == 0 {
		return nil
	}
	all, _, err := readJournal(s.journal.path)
	if err != nil {
		return nil //nolint:nilerr // they stay as they are
	}
	return s.durable.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketContainers)
		for k := range bad {
			value := []byte(all[string(bucketContainers)][k])
			c, err := decode([]byte(k), value)
			if err != nil || b.Get([]byte(k)) == nil { // or it was deleted
				continue
			}
			if err := b.Put([]byte(k), value); err != nil {
				return err
			}
			newest[k] = c
			delete(bad, k)
		}
		return nil
	})
}
