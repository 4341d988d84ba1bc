package api

import "testing"

func BenchmarkDecodeCreate(b *testing.B) {
	s, _ := newFake()
	for b.Loop() {
		if _, _, err := s.decodeCreate([]byte(cli28), newest, "web", ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindRoute(b *testing.B) {
	table := routes()
	for b.Loop() {
		if _, _, ok := find(table, del, "/configs/abc"); !ok {
			b.Fatal("no route")
		}
	}
}
