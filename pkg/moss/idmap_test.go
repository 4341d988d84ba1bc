package moss

import "testing"

func TestIDMaps(t *testing.T) {
	m := []IDMap{{5, 0, 1}, {0, 1, 5}, {6, 6, 4}, {20, 30, 2}}
	for _, c := range []struct {
		container, engine uint32
		in, out           bool
	}{{0, 1, true, true}, {4, 5, true, true}, {5, 0, true, true}, {9, 9, true, true}, {21, 31, true, true}, {10, 10, false, false}, {22, 32, false, false}} {
		if got, ok := ToEngine(m, c.container); ok != c.in || ok && got != c.engine {
			t.Errorf("ToEngine(%d) = %d %v", c.container, got, ok)
		}
		if got, ok := ToContainer(m, c.engine); ok != c.out || ok && got != c.container {
			t.Errorf("ToContainer(%d) = %d %v", c.engine, got, ok)
		}
	}
	if n := IDsFromZero(m); n != 10 {
		t.Errorf("%d ids from 0", n)
	}
	if n := IDsFromZero([]IDMap{{1, 1, 5}}); n != 0 {
		t.Errorf("%d ids from 0", n)
	}
}
