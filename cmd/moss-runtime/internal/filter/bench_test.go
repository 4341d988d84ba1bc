package filter

import "testing"

// BenchmarkProfile is the runtime's part of a start: docker's profile met again.
func BenchmarkProfile(b *testing.B) {
	c, text := ForRoot(b.TempDir()), textOf(b, dockerSpec(b))
	c.started(b, text)
	for b.Loop() {
		if p, err := c.Profile(text); err != nil || p.entry == nil {
			b.Fatal("not kept", err)
		}
	}
}

// BenchmarkEntry is what is done for a profile that was not met before, or by
// another name: libcontainer building the filter, and its program found or
// compiled.
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
