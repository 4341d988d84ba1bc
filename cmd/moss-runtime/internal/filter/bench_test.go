package filter

import "testing"

// BenchmarkEntry is the runtime's part of a start: libcontainer building the
// filter of docker's profile, and its program found or compiled.
func BenchmarkEntry(b *testing.B) {
	profile := dockerProfile(b)
	b.Run("kept", func(b *testing.B) {
		c := ForRoot(b.TempDir())
		for range b.N {
			if _, err := c.Entry(profile); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compiled", func(b *testing.B) {
		for range b.N {
			if _, err := (Cache{}).Entry(profile); err != nil {
				b.Fatal(err)
			}
		}
	})
}
