package records

import (
	"context"
	"errors"

	"go.etcd.io/bbolt"

	"github.com/moss-containers/moss/pkg/moss"
)

// Check reads in both databases. It fails when ctx ends before they answer.
func (s *Store) Check(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		read := func(tx *bbolt.Tx) error {
			if tx.Bucket(bucketContainers) == nil {
				return errors.New("the records of the containers are gone")
			}
			return nil
		}
		done <- errors.Join(s.durable.View(read), s.volatile.View(read))
	}()
	select {
	case err := <-done:
		return moss.Wrap(err, "read the records", "")
	case <-ctx.Done():
		return moss.Wrap(ctx.Err(), "read the records", "")
	}
}
