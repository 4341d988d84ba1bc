//go:build race

package image

// The library's lock files note that they are locked without care for other
// readers that note the same: harmless, and found by the race detector.
func init() { underRace = true }
