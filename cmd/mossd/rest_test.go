package main

import (
	"os"
	"strings"
	"testing"
)

// program sums up what is mapped of this program and only read.
func program(t *testing.T) (list []mapping, resident, size int) {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := mappings(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.path == self && m.untouched() {
			list, resident, size = append(list, m), resident+m.resident, size+int(m.end-m.begin)>>10
		}
	}
	return list, resident, size
}

func TestDropProgram(t *testing.T) {
	list, _, _ := program(t)
	if len(list) == 0 {
		t.Fatal("nothing is mapped of the program")
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, m := range list {
		for at := m.begin; at < m.end; at += 4096 {
			if _, err := memory.ReadAt(make([]byte, 1), int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, before, size := program(t)
	if before < size*9/10 {
		t.Fatalf("of %d KiB, %d are resident after all were read", size, before)
	}
	if err := dropProgram(); err != nil {
		t.Fatal(err)
	}
	if _, after, _ := program(t); after > before*3/4 { // what goes on needs some of it at once, with what lies around it
		t.Errorf("of %d KiB, %d were resident, and then %d", size, before, after)
	}
}

func TestMappings(t *testing.T) {
	list, err := mappings(strings.NewReader(`00400000-01000000 r-xp 00000000 fd:00 123 /usr/bin/my mossd
Rss:                 100 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
01000000-01001000 r--p 00c00000 fd:00 123 /usr/bin/my mossd
Rss:                   4 kB
Anonymous:             4 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Rss:                  12 kB
Anonymous:            12 kB
`))
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	if m := list[0]; m.begin != 0x400000 || m.end != 0x1000000 || m.path != "/usr/bin/my mossd" || m.resident != 100 || !m.untouched() {
		t.Errorf("%+v", m)
	}
	if list[1].untouched() || list[2].untouched() || list[2].path != "" {
		t.Errorf("%+v", list[1:])
	}
	for _, text := range []string{"nonsense here", "x-y r-xp 0 0 0 z"} {
		if _, err := mappings(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
