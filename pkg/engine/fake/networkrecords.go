package fake

import (
	"slices"
	"sync"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.NetworkRecords = (*NetworkRecords)(nil)

// NetworkRecords keeps records of networks in memory.
type NetworkRecords struct {
	// OnPut, when set, is asked first.
	OnPut func(moss.Network) error

	mu  sync.Mutex
	all []moss.Network
}

// PutNetwork implements engine.NetworkRecords.
func (r *NetworkRecords) PutNetwork(n moss.Network) error {
	if r.OnPut != nil {
		if err := r.OnPut(n); err != nil {
			return err
		}
	}
	if err := r.DeleteNetwork(n.ID); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, n)
	return nil
}

// DeleteNetwork implements engine.NetworkRecords.
func (r *NetworkRecords) DeleteNetwork(id moss.NetworkID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(n moss.Network) bool { return n.ID == id })
	return nil
}

// LoadNetworks implements engine.NetworkRecords.
func (r *NetworkRecords) LoadNetworks() ([]moss.Network, map[string]error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all), nil, nil
}
