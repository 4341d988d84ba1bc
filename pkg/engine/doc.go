// Package engine holds the use cases: a file a verb. It owns the containers'
// records and the one lock each has, drives the adapters through the
// interfaces in ports.go, and changes a state only in commit (lifecycle, then
// the record, then the event). It imports no adapter.
package engine
