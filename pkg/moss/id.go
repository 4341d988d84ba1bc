package moss

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// ContainerID is 64 lower-case hex digits. The first 12, unique on one engine,
// name the container's unit.
type ContainerID string

// Short returns the first 12 digits, as docker prints them.
func (id ContainerID) Short() string { return short(string(id)) }

// ImageID is the digest of an image's configuration, "sha256:" and 64 hex digits.
type ImageID string

// Short returns the first 12 hex digits, as docker prints them.
func (id ImageID) Short() string { return short(strings.TrimPrefix(string(id), "sha256:")) }

// NetworkID is 64 lower-case hex digits.
type NetworkID string

// ExecID is 64 lower-case hex digits.
type ExecID string

// StreamID names the standard streams of one process of the engine: a
// container's (its ContainerID) or an exec's (its ExecID).
type StreamID string

// Streams names the standard streams of a container.
func (id ContainerID) Streams() StreamID { return StreamID(id) }

// Streams names the standard streams of an exec.
func (id ExecID) Streams() StreamID { return StreamID(id) }

// NewHexID returns 64 random lower-case hex digits. Like docker, it never
// returns one whose short form is all digits, which programs take for a number.
func NewHexID() string {
	for {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand
		id := hex.EncodeToString(b[:])
		if strings.ContainsAny(id[:12], "abcdef") {
			return id
		}
	}
}

func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}
