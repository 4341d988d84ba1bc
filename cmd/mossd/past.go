package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/moss-containers/moss/pkg/logs/journal"
)

// journalOf is [units.Options].Journal: of a user's entries, uid being the machine's.
func journalOf(uid int) func(name, value string, since time.Time, each func(time.Time, map[string]string)) error {
	return func(name, value string, since time.Time, each func(time.Time, map[string]string)) (err error) {
		j, err := journal.OpenAll(journal.Dirs(), name, value)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		if err := j.SeekTime(since); err != nil {
			return err
		}
		for {
			e, ok, err := j.Next()
			if err != nil || !ok {
				return err
			}
			if e.Fields["_UID"] == strconv.Itoa(uid) { // journald's own word, which no sender can give
				each(e.Time, e.Fields)
			}
		}
	}
}
