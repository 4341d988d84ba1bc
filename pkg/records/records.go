// Package records keeps the containers' records, and is the one importer of
// bbolt. There are two databases. The durable one lies in the data directory
// and is synced at every change; the volatile one lies in the run-time
// directory, which does not outlive the boot, and is never synced. A record
// in the volatile one is newer than its twin in the durable one. So a
// container that will be gone in a second costs no sync at all, and what a
// user was told survives the loss of power.
package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/moss-containers/moss/pkg/moss"
)

var (
	bucketContainers = []byte("containers")
	bucketNetworks   = []byte("networks")
	bucketMeta       = []byte("meta")
	buckets          = [][]byte{bucketContainers, bucketNetworks, bucketMeta}
	keySchema        = []byte("schema")
	keyEngineID      = []byte("engine-id")
)

// Store is the two databases.
type Store struct {
	durable, volatile *bbolt.DB
	journal           journal // of the durable one
	early             early
	recovered         string
}

// Open opens, or makes, the databases at the two paths, and brings them to this
// moss's layout; see layout. A volatile one that
// cannot be read is begun anew: it says nothing that the units do not. A
// durable one is made anew from its journal, and kept; see [Store.Recovered].
// Errors: Unavailable when another daemon has them open, or when the durable
// one is damaged and has no journal, or is from a newer moss.
func Open(durable, volatile string) (*Store, error) { return openLayout(durable, volatile, current) }

func openLayout(durable, volatile string, l layout) (*Store, error) {
	s := &Store{journal: journal{path: durable + ".journal"}}
	var err error
	if s.durable, s.recovered, err = s.journal.openDurable(durable, l); err != nil {
		return nil, classified(durable, err)
	}
	s.volatile, err = open(volatile, true, l)
	if err != nil && !errors.Is(err, bbolterrors.ErrTimeout) {
		if rmErr := os.Remove(volatile); rmErr == nil {
			s.volatile, err = open(volatile, true, l)
		}
	}
	if err != nil {
		return nil, errors.Join(classified(volatile, err), s.durable.Close())
	}
	// Without a journal the records are as good; the next start tries again.
	_ = s.journal.open(s.durable)
	s.early.begin(s)
	return s, nil
}

// Recovered says what Open found damaged and made anew, "" for nothing.
func (s *Store) Recovered() string { return s.recovered }

func (j *journal) openDurable(path string, l layout) (db *bbolt.DB, told string, err error) {
	// bbolt takes a file that is empty or gone for a new one, and the engine would
	// delete the containers that it does not find in it.
	if st, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
		if all, _, err := readJournal(j.path); err == nil && len(all) > 0 {
			return j.remake(path, l, time.Now(), &damagedError{errors.New("the file is empty or gone")})
		}
	}
	db, err = open(path, false, l)
	if _, damaged := errors.AsType[*damagedError](err); damaged {
		return j.remake(path, l, time.Now(), err)
	}
	return db, "", err
}

// classified gives an error of opening its class, its subject and the mend.
func classified(path string, err error) error {
	if errors.Is(err, bbolterrors.ErrTimeout) {
		err = &heldError{holder(path), err}
	}
	if _, damaged := errors.AsType[*damagedError](err); damaged {
		err = fmt.Errorf("the file is damaged (%w); put a copy in its place, or move it away to begin anew: the containers are then deleted", err)
	}
	return &moss.Error{Class: moss.Unavailable, Op: "open the records in", ID: path, Err: err}
}

func open(path string, noSync bool, l layout) (db *bbolt.DB, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	var file *os.File
	err = guarded(func() error {
		// The list of free pages is kept: bbolt makes it anew in a goroutine whose panic nobody can catch.
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: 5 * time.Second, NoSync: noSync, NoGrowSync: noSync, FreelistType: bbolt.FreelistMapType, NoFreelistSync: noSync,
			OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			},
		})
		if err != nil {
			return blame(err)
		}
		db.MaxBatchDelay = 100 * time.Microsecond // long enough to share a sync, too short to be felt
		if err := settle(db, l, !noSync); err != nil {
			return err
		}
		return verify(db)
	})
	if err == nil {
		return db, nil
	}
	if db != nil {
		return nil, errors.Join(err, db.Close())
	}
	if file != nil { // which a panic left open, mapped and therefore locked
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
		_ = file.Close()
	}
	return nil, err
}

// EngineID returns the id that this data directory's engine keeps for life.
func (s *Store) EngineID() (string, error) {
	var id string
	err := s.durable.View(func(tx *bbolt.Tx) error {
		id = string(tx.Bucket(bucketMeta).Get(keyEngineID))
		return nil
	})
	if err != nil || id != "" {
		return id, moss.Wrap(err, "read the id of the engine", "")
	}
	id = moss.NewHexID()
	err = s.durable.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyEngineID, []byte(id)) })
	if err == nil {
		s.journal.note(s.durable, bucketMeta, string(keyEngineID), []byte(id))
	}
	return id, moss.Wrap(err, "keep the id of the engine", "")
}

// Put stores a record, in the durable database when durable is set.
func (s *Store) Put(c *moss.Container, durable bool) error {
	value, err := json.Marshal(c)
	if err != nil {
		return moss.Wrap(err, "encode the record of", c.Name)
	}
	put := func(tx *bbolt.Tx) error { return tx.Bucket(bucketContainers).Put([]byte(c.ID), value) }
	if !durable {
		return moss.Wrap(s.volatile.Update(put), "keep the record of", c.Name)
	}
	// After a kill between the two it is as if this Put had not been called.
	if err := s.durable.Batch(put); err != nil {
		return moss.Wrap(err, "keep the record of", c.Name)
	}
	s.journal.note(s.durable, bucketContainers, string(c.ID), value)
	_, err = remove(s.volatile, c.ID)
	return moss.Wrap(err, "keep the record of", c.Name)
}

// Delete removes a record; nil when there is none.
func (s *Store) Delete(id moss.ContainerID) error {
	// The durable one goes first: after a kill in between, the volatile one still tells of the removal.
	there, err := remove(s.durable, id)
	if err != nil {
		return moss.Wrap(err, "delete the record of", id.Short())
	}
	if there {
		s.journal.note(s.durable, bucketContainers, string(id), nil)
	}
	_, err = remove(s.volatile, id)
	return moss.Wrap(err, "delete the record of", id.Short())
}

// remove tells whether there was a record.
func remove(db *bbolt.DB, id moss.ContainerID) (there bool, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(bucketContainers).Get([]byte(id)) != nil
		return nil
	})
	if err != nil || !there {
		return false, err
	}
	return true, db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucketContainers).Delete([]byte(id)) })
}

// decode reads the record that is stored at key.
func decode(key, value []byte) (*moss.Container, error) {
	c := new(moss.Container)
	if err := json.Unmarshal(value, c); err != nil {
		return nil, errors.New(moss.Shown(err.Error())) // it quotes the record
	}
	if string(c.ID) != string(key) {
		return nil, fmt.Errorf("it is the record of %q", c.ID)
	}
	return c, nil
}

// Load returns every record that can be read, the volatile one before its
// durable twin; those that cannot be read are in bad by their key and stay.
func (s *Store) Load() (all []*moss.Container, bad map[string]error, err error) {
	found, err := s.early.take(s)
	if err != nil {
		return nil, nil, moss.Wrap(err, "read the records", "")
	}
	newest := make(map[string]*moss.Container)
	bad = make(map[string]error)
	for _, f := range found {
		if f.err != nil {
			bad[f.key] = f.err
		} else {
			newest[f.key] = f.c
		}
	}
	for k := range newest {
		delete(bad, k)
	}
	if err := s.mend(bad, newest); err != nil {
		return nil, nil, moss.Wrap(err, "mend the records", "")
	}
	for _, c := range newest {
		all = append(all, c)
	}
	return all, bad, nil
}

// Close closes both databases.
func (s *Store) Close() error {
	s.early.stop()
	return errors.Join(s.journal.close(s.durable), s.durable.Close(), s.volatile.Close())
}
