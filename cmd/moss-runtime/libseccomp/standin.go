package seccomp

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"sync"

	upstream "moss.invalid/libseccomp-golang"
)

// standInPrefix begins the name of no system call. A rule for such a name makes
// its filter stand in for the one whose key the rest is: it has that one's key
// and can have its program from a source, but not be compiled.
const standInPrefix = "moss:program:"

// StandInName is the name that makes a filter stand in for that of key.
func StandInName(key Key) string { return standInPrefix + hex.EncodeToString(key[:]) }

// StandsFor is the key in such a name. One that is no key is that of nothing.
func StandsFor(name string) (key Key, ok bool) {
	text, ok := strings.CutPrefix(name, standInPrefix)
	if !ok {
		return key, false
	}
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(key) {
		copy(key[:], b)
	}
	return key, true
}

// Names are given to filters as numbers: these, from the lowest on, are numbers
// of such names.
const lowest = math.MinInt32

var standIns struct {
	sync.Mutex
	keys []Key
}

func standInCall(key Key) ScmpSyscall {
	standIns.Lock()
	defer standIns.Unlock()
	standIns.keys = append(standIns.keys, key)
	return ScmpSyscall(lowest + len(standIns.keys) - 1)
}

func standInOf(call ScmpSyscall) (Key, bool) {
	standIns.Lock()
	defer standIns.Unlock()
	if n := int64(call) - lowest; n < int64(len(standIns.keys)) {
		return standIns.keys[n], true
	}
	return Key{}, false
}

// standFor makes f stand in for the filter of key.
func (f *ScmpFilter) standFor(key Key) error {
	if f.stands != nil && *f.stands != key {
		return fmt.Errorf("filter %x cannot stand in for %x too", *f.stands, key)
	}
	f.stands = &key
	return nil
}

// GetSyscallFromName returns a system call's number on the native architecture.
func GetSyscallFromName(name string) (ScmpSyscall, error) {
	if key, ok := StandsFor(name); ok {
		return standInCall(key), nil
	}
	return upstream.GetSyscallFromName(name)
}
