package meter

import "testing"

// FuzzUse: what the kernel tells of I/O and of links, in whatever shape.
func FuzzUse(f *testing.F) {
	f.Add("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n", "Inter-|\n face |\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
	f.Fuzz(func(t *testing.T, io, links string) {
		_ = parseIO(io)
		for name := range parseLinks(links) {
			if name == "" {
				t.Errorf("a link without a name in %q", links)
			}
		}
	})
}
