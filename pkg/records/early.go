package records

import (
	"bytes"
	"runtime"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/moss-containers/moss/pkg/moss"
)

// early reads and decodes the records while the rest of the daemon is put
// together: of a thousand, that is what a start takes longest for.
type early struct {
	wg    sync.WaitGroup
	once  sync.Once // its result is for one Load
	at    [2]int    // the databases' last transactions
	found []found
	err   error
}

// found is a record as it is stored, and what it says.
type found struct {
	key   string
	value []byte
	c     *moss.Container
	err   error
}

func (e *early) begin(s *Store) {
	e.wg.Go(func() { e.found, e.at, e.err = s.readAll() })
}

// take gives what was read, or reads it where something has changed since.
func (e *early) take(s *Store) (list []found, err error) {
	e.wg.Wait()
	fresh := false
	e.once.Do(func() {
		at, atErr := s.transactions()
		fresh = e.err == nil && atErr == nil && at == e.at
		list, e.found = e.found, nil
	})
	if fresh {
		return list, nil
	}
	list, _, err = s.readAll()
	return list, err
}

func (e *early) stop() { e.wg.Wait() }

func (s *Store) transactions() (at [2]int, err error) {
	for i, db := range []*bbolt.DB{s.durable, s.volatile} {
		if at[i], err = lastTransaction(db); err != nil {
			return at, err
		}
	}
	return at, nil
}

// readAll gives the records of both, decoded, the durable ones first.
func (s *Store) readAll() (list []found, at [2]int, err error) {
	for i, db := range []*bbolt.DB{s.durable, s.volatile} {
		err := guarded(func() error {
			return db.View(func(tx *bbolt.Tx) error {
				at[i] = tx.ID()
				return tx.Bucket(bucketContainers).ForEach(func(k, v []byte) error {
					list = append(list, found{key: string(k), value: bytes.Clone(v)})
					return nil
				})
			})
		})
		if err != nil {
			return nil, at, err
		}
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(list); i += workers {
				list[i].c, list[i].err = decode([]byte(list[i].key), list[i].value)
				list[i].value = nil
			}
		})
	}
	wg.Wait()
	return list, at, nil
}
