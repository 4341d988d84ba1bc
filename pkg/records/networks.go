package records

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/moss-containers/moss/pkg/moss"
)

// PutNetwork stores a network's record, in the durable database.
func (s *Store) PutNetwork(n moss.Network) error {
	value, err := json.Marshal(n)
	if err == nil {
		err = s.durable.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketNetworks).Put([]byte(n.ID), value) })
	}
	if err == nil {
		s.journal.note(s.durable, bucketNetworks, string(n.ID), value)
	}
	return moss.Wrap(err, "keep the record of network", n.Name)
}

// DeleteNetwork removes a network's record; nil when there is none.
func (s *Store) DeleteNetwork(id moss.NetworkID) error {
	err := s.durable.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketNetworks).Delete([]byte(id)) })
	if err == nil {
		s.journal.note(s.durable, bucketNetworks, string(id), nil)
	}
	return moss.Wrap(err, "delete the record of network", string(id))
}

// LoadNetworks returns the networks' records that can be read; those that
// cannot are in bad by their key and stay.
func (s *Store) LoadNetworks() (all []moss.Network, bad map[string]error, err error) {
	bad = map[string]error{}
	err = s.durable.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketNetworks).ForEach(func(k, v []byte) error {
			n, err := decodeNetwork(k, v)
			if err != nil {
				bad[string(k)] = err
			} else {
				all = append(all, n)
			}
			return nil
		})
	})
	return all, bad, moss.Wrap(err, "read the records of networks", "")
}

// decodeNetwork reads the record that is stored at key.
func decodeNetwork(key, value []byte) (moss.Network, error) {
	var n moss.Network
	if err := json.Unmarshal(value, &n); err != nil {
		return moss.Network{}, errors.New(moss.Shown(err.Error())) // it quotes the record
	}
	if string(n.ID) != string(key) {
		return moss.Network{}, fmt.Errorf("it is the record of %q", n.ID)
	}
	return n, nil
}
