package fake

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.Records = (*Records)(nil)

// Records keeps records in memory, those that outlive the boot apart.
type Records struct {
	mu                sync.Mutex
	durable, volatile map[moss.ContainerID]moss.Container
	broken            map[string]error
	fail              map[string]error
}

// NewRecords returns an empty store.
func NewRecords() *Records {
	return &Records{
		durable: map[moss.ContainerID]moss.Container{}, volatile: map[moss.ContainerID]moss.Container{},
		broken: map[string]error{}, fail: map[string]error{},
	}
}

// Fail makes a method ("Put", "Delete", "Load") return err until it is called with nil.
func (r *Records) Fail(method string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[method] = err
}

// Break makes a record one that cannot be read.
func (r *Records) Break(id moss.ContainerID, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.durable, id)
	delete(r.volatile, id)
	r.broken[string(id)] = why
}

// Reboot loses what is not durable.
func (r *Records) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.volatile)
}

// Put implements engine.Records.
func (r *Records) Put(c *moss.Container, durable bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["Put"]; err != nil {
		return err
	}
	if durable {
		r.durable[c.ID] = *c
		delete(r.volatile, c.ID)
	} else {
		r.volatile[c.ID] = *c
	}
	return nil
}

// Delete implements engine.Records.
func (r *Records) Delete(id moss.ContainerID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["Delete"]; err != nil {
		return err
	}
	delete(r.durable, id)
	delete(r.volatile, id)
	return nil
}

// Load implements engine.Records.
func (r *Records) Load() ([]*moss.Container, map[string]error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["Load"]; err != nil {
		return nil, nil, err
	}
	newest := maps.Clone(r.durable)
	maps.Copy(newest, r.volatile)
	var all []*moss.Container
	for _, c := range newest {
		all = append(all, &c)
	}
	slices.SortFunc(all, func(a, b *moss.Container) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, maps.Clone(r.broken), nil
}
