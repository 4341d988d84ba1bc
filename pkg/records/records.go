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
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/moss-containers/moss/pkg/moss"
)

var (
	bucketContainers = []byte("containers")
	bucketNetworks   = []byte("networks")
	bucketMeta       = []byte("meta")
	keySchema        = []byte("schema")
	keyEngineID      = []byte("engine-id")
)

// Store is the two databases.
type Store struct {
	durable, volatile *bbolt.DB
}

// Open opens, or makes, the databases at the two paths, and brings them to this
// moss's layout; see layout. A volatile one that
// cannot be read is begun anew: it says nothing that the units do not.
// Errors: Unavailable when another daemon has them open, or when the durable
// one is damaged or from a newer moss.
func Open(durable, volatile string) (*Store, error) { return openLayout(durable, volatile, current) }

func openLayout(durable, volatile string, l layout) (*Store, error) {
	d, err := open(durable, false, l)
	if err != nil {
		return nil, err
	}
	v, err := open(volatile, true, l)
	if err != nil && !errors.Is(err, bbolterrors.ErrTimeout) {
		if rmErr := os.Remove(volatile); rmErr == nil {
			v, err = open(volatile, true, l)
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Store{durable: d, volatile: v}, nil
}

func open(path string, noSync bool, l layout) (_ *bbolt.DB, err error) {
	fail := func(err error) (*bbolt.DB, error) {
		if errors.Is(err, bbolterrors.ErrTimeout) {
			err = fmt.Errorf("another mossd has it open: %w", err)
		}
		return nil, &moss.Error{Class: moss.Unavailable, Op: "open the records in", ID: path, Err: err}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err)
	}
	// bbolt panics on some kinds of damage.
	defer func() {
		if r := recover(); r != nil {
			_, err = fail(fmt.Errorf("the file is damaged (%v); move it away to begin anew", r))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 5 * time.Second, NoSync: noSync, NoGrowSync: noSync,
		FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
	})
	if err != nil {
		return fail(err)
	}
	db.MaxBatchDelay = 100 * time.Microsecond // long enough to share a sync, too short to be felt
	err = settle(db, l, !noSync)
	if err != nil {
		return fail(errors.Join(err, db.Close()))
	}
	return db, nil
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
	return moss.Wrap(remove(s.volatile, c.ID), "keep the record of", c.Name)
}

// Delete removes a record; nil when there is none.
func (s *Store) Delete(id moss.ContainerID) error {
	// The durable one goes first: after a kill in between, the volatile one still tells of the removal.
	if err := remove(s.durable, id); err != nil {
		return moss.Wrap(err, "delete the record of", id.Short())
	}
	return moss.Wrap(remove(s.volatile, id), "delete the record of", id.Short())
}

func remove(db *bbolt.DB, id moss.ContainerID) error {
	there := false
	err := db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(bucketContainers).Get([]byte(id)) != nil
		return nil
	})
	if err != nil || !there {
		return err
	}
	return db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucketContainers).Delete([]byte(id)) })
}

// decode reads the record that is stored at key.
func decode(key, value []byte) (*moss.Container, error) {
	c := new(moss.Container)
	if err := json.Unmarshal(value, c); err != nil {
		return nil, err
	}
	if string(c.ID) != string(key) {
		return nil, fmt.Errorf("it is the record of %q", c.ID)
	}
	return c, nil
}

// Load returns every record that can be read, the volatile one before its
// durable twin; those that cannot be read are in bad by their key and stay.
func (s *Store) Load() (all []*moss.Container, bad map[string]error, err error) {
	newest := make(map[string]*moss.Container)
	bad = make(map[string]error)
	for _, db := range []*bbolt.DB{s.durable, s.volatile} {
		err := db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketContainers).ForEach(func(k, v []byte) error {
				if c, err := decode(k, v); err != nil {
					bad[string(k)] = err
				} else {
					newest[string(k)] = c
				}
				return nil
			})
		})
		if err != nil {
			return nil, nil, moss.Wrap(err, "read the records", "")
		}
	}
	for k, c := range newest {
		delete(bad, k)
		all = append(all, c)
	}
	return all, bad, nil
}

// Close closes both databases.
func (s *Store) Close() error {
	return errors.Join(s.durable.Close(), s.volatile.Close())
}
