package image

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

// benchImages are those of the figures: 180 MB in eight layers, and 50,000 files in four.
func benchImages() map[string]porttest.ArchiveImage {
	rnd := rand.NewChaCha8([32]byte{1})
	text := func(n int) string {
		b := make([]byte, n)
		_, _ = rnd.Read(b)
		return string(b)
	}
	big, many := porttest.ArchiveImage{Tags: []string{"bench:big"}}, porttest.ArchiveImage{Tags: []string{"bench:many"}}
	for l := range 8 {
		var files []porttest.File
		for f := range 15 {
			files = append(files, porttest.File{Name: fmt.Sprintf("l%d-%d", l, f), Text: text(1500 << 10)})
		}
		big.Layers = append(big.Layers, files)
	}
	for l := range 4 {
		var files []porttest.File
		for d := range 125 {
			files = append(files, porttest.File{Name: fmt.Sprintf("l%d/d%d", l, d), Type: '5', Mode: 0o755})
			for f := range 100 {
				files = append(files, porttest.File{Name: fmt.Sprintf("l%d/d%d/f%d", l, d, f), Text: text(1000 + f)})
			}
		}
		many.Layers = append(many.Layers, files)
	}
	return map[string]porttest.ArchiveImage{"180MB": big, "50000files": many}
}

func BenchmarkLoad(b *testing.B) {
	for name, im := range benchImages() {
		archive := porttest.DockerArchive(b, im)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				b.StopTimer()
				s := open(b, b.TempDir())
				b.StartTimer()
				_, err := load(b, s, archive)
				must(b, err)
			}
		})
	}
}

func BenchmarkSave(b *testing.B) {
	for name, im := range benchImages() {
		archive := porttest.DockerArchive(b, im)
		b.Run(name, func(b *testing.B) {
			s := open(b, b.TempDir())
			_, err := load(b, s, archive)
			must(b, err)
			b.SetBytes(int64(len(archive)))
			for b.Loop() {
				_, err := s.Save(b.Context(), moss.SaveRequest{Refs: im.Tags}, io.Discard)
				must(b, err)
			}
		})
	}
}

// BenchmarkDelete measures until the answer; the files go behind it.
func BenchmarkDelete(b *testing.B) {
	for name, im := range benchImages() {
		archive := porttest.DockerArchive(b, im)
		b.Run(name, func(b *testing.B) {
			s := open(b, b.TempDir())
			for b.Loop() {
				b.StopTimer()
				got, err := s.Load(b.Context(), bytes.NewReader(archive), moss.LoadOptions{}, func(moss.Progress) {})
				must(b, err)
				b.StartTimer()
				must(b, s.Untag(b.Context(), im.Tags[0]))
				_, err = s.Delete(b.Context(), got[0].ID)
				must(b, err)
				b.StopTimer()
				must(b, s.reaper.wait(b.Context()))
				b.StartTimer()
			}
		})
	}
}
