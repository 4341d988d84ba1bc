package records

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"go.etcd.io/bbolt"
)

// layout is a number of the records' schema, and the way there from older ones.
type layout struct {
	number int
	// from has the step from each older schema to the next one. A step must not
	// use moss's nouns, which change: it reads and writes plain JSON.
	from map[int]func(tx *bbolt.Tx) error
}

// current is the layout of this moss. When the records change so that an older
// moss, or this one, would misread the other's: raise the number, add the step.
//
// 2 has networks, and containers attached to them, of which an older moss knows nothing.
var current = layout{number: 2, from: map[int]func(*bbolt.Tx) error{
	1: func(*bbolt.Tx) error { return nil }, // the bucket is made with the others
}}

// settle makes a database one of layout l, in one transaction. Before a step a
// copy of the file is put beside it, for the way back to the moss that wrote it.
func settle(db *bbolt.DB, l layout, backup bool) error {
	have, err := number(db)
	if err != nil {
		return err
	}
	if have == l.number {
		return nil // and its buckets were made with the number
	}
	if have > l.number {
		return fmt.Errorf("it has schema %d and this moss knows %d: install the moss that wrote it, or move the file away to begin anew", have, l.number)
	}
	for n := have; n != 0 && n < l.number; n++ {
		if l.from[n] == nil {
			return fmt.Errorf("it has schema %d, from which this moss knows no way to %d: start a moss that is older than this one first", have, l.number)
		}
	}
	if backup && have != 0 && have < l.number {
		if err := keepCopy(db, have); err != nil {
			return fmt.Errorf("copying it before the move from schema %d: %w", have, err)
		}
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		for n := have; n != 0 && n < l.number; n++ {
			if err := l.from[n](tx); err != nil {
				return fmt.Errorf("moving it from schema %d to %d: %w", n, n+1, err)
			}
		}
		return tx.Bucket(bucketMeta).Put(keySchema, []byte(strconv.Itoa(l.number)))
	})
}

// number reads the schema of a database, 0 for a new one.
func number(db *bbolt.DB) (int, error) {
	n := 0
	err := db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return nil
		}
		text := meta.Get(keySchema)
		if text == nil {
			return nil
		}
		var err error
		if n, err = strconv.Atoi(string(text)); err != nil || n < 1 {
			return &damagedError{fmt.Errorf("its schema %q is no number", text)}
		}
		return nil
	})
	return n, err
}

// keepCopy writes the file's copy "….schema-N", whole or not at all.
func keepCopy(db *bbolt.DB, schema int) error {
	name := fmt.Sprintf("%s.schema-%d", db.Path(), schema)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(f); return err })
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
