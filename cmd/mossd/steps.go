package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// step is a part of the daemon's start.
type step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"` // nanoseconds
	// Behind says that it did not hold the start up.
	Behind bool `json:"behind,omitempty"`
}

// steps measures them, one after the other.
type steps struct {
	mu          sync.Mutex
	begun, last time.Time
	list        []step
	late        []step // behind the start
}

func newSteps(begun time.Time) *steps { return &steps{begun: begun, last: begun} }

func (s *steps) done(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.list = append(s.list, step{Name: name, Took: now.Sub(s.last)})
	s.last = now
}

// behind is a step that did not hold the start up.
func (s *steps) behind(name string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, step{name, took, true})
}

// told is what who asks for the steps is told.
func (s *steps) told() []step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.list, s.late)
}

func (s *steps) all() []step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]step(nil), s.list...)
}

// latest is the end of the last one.
func (s *steps) latest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *steps) total() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Sub(s.begun)
}

// LogValue is what every format of the log has of them.
func (s *steps) LogValue() slog.Value { return slog.StringValue(s.String()) }

// String is for the log: "bus 3ms, records 2ms".
func (s *steps) String() string {
	var words []string
	for _, st := range s.all() {
		words = append(words, fmt.Sprintf("%s %dms", st.Name, st.Took.Milliseconds()))
	}
	return strings.Join(words, ", ")
}
