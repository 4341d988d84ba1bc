package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The vectors of SipHash's authors.
func TestSipHash(t *testing.T) {
	var key [16]byte
	in := make([]byte, 64)
	for i := range key {
		key[i] = byte(i)
	}
	for i := range in {
		in[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5} {
		if got := sipHash(key, in[:n]); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

func TestFieldName(t *testing.T) {
	for in, want := range map[string]string{
		"app.name": "APP_NAME", "__x": "X", "1st": "ST", "": "", "é": "", "A1_b": "A1_B", strings.Repeat("a", 70): strings.Repeat("A", 64),
	} {
		if got := FieldName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestEntryOnTheWire(t *testing.T) {
	b := AppendField(nil, "A", []byte("1"))
	b = AppendField(b, "B", []byte("x\ny"))
	b = AppendEnd(b)
	want := "A=1\nB\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n\n"
	if string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
}

func TestOpenAll(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenAll([]string{dir, filepath.Join(dir, "none")}, "A", "b"); err == nil || !strings.Contains(err.Error(), "systemd-journal") {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.journal"), []byte("LPKSHHRH"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAll([]string{dir}, "A", "b"); err == nil {
		t.Error("a damaged file is one that can be read")
	}
}

// sample makes a journal file as systemd does, with few buckets, so that chains
// are longer than one. The tests of pkg/logs read real ones.
func sample(compact bool, messages ...string) []byte {
	const buckets = 3
	b := make([]byte, 272)
	copy(b, "LPKSHHRH")
	flags := uint32(withKeys)
	head, item := 64, 8
	if compact {
		flags, head, item = flags|withCompact, 72, 4
	}
	le.PutUint32(b[12:], flags)
	copy(b[24:], "0123456789abcdef")
	le.PutUint64(b[104:], 272)
	le.PutUint64(b[112:], buckets*16)
	b = append(b, make([]byte, buckets*16)...)
	object := func(kind byte, size int) int {
		at := len(b)
		b = append(b, make([]byte, (size+7)&^7)...)
		b[at] = kind
		le.PutUint64(b[at+8:], uint64(size))
		return at
	}
	data := func(text string) int {
		at := object(dataObject, head+len(text))
		copy(b[at+head:], text)
		bucket := 272 + sipHash([16]byte(b[24:40]), []byte(text))%buckets*16
		copy(b[at+24:], b[bucket:bucket+8]) // the chain goes on with the one before
		le.PutUint64(b[bucket:], uint64(at))
		return at
	}
	put := func(at, i, v int) {
		if compact {
			le.PutUint32(b[at+i*4:], uint32(v))
		} else {
			le.PutUint64(b[at+i*item:], uint64(v))
		}
	}
	name := data("CONTAINER_NAME=sample")
	array := object(arrayObject, 24+item*len(messages))
	le.PutUint64(b[name+48:], uint64(array))
	le.PutUint64(b[name+56:], uint64(len(messages)))
	for i, m := range messages {
		text := data("MESSAGE=" + m)
		size := 16
		if compact {
			size = 4
		}
		e := object(entryObject, 64+2*size)
		put(e+64, 0, name)
		put(e+64, size/item, text)
		if i == 0 {
			le.PutUint64(b[name+40:], uint64(e))
		} else {
			put(array+24, i-1, e)
		}
	}
	return b
}

func TestFile(t *testing.T) {
	want := []string{"one", "two", strings.Repeat("three", 500), "", "two"}
	for _, compact := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.journal"), sample(compact, want...), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(dir)
		if err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("compact %v: %q, %v", compact, got, err)
		}
	}
}

func readAll(dir string) (lines []string, err error) {
	r, err := OpenAll([]string{dir}, "CONTAINER_NAME", "sample")
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	return rest(r)
}

// rest reads the entries before which a reader stands.
func rest(r *Reader) (lines []string, err error) {
	for {
		e, ok, err := r.Next()
		if err != nil || !ok {
			return lines, err
		}
		lines = append(lines, e.Fields["MESSAGE"])
	}
}

func FuzzFile(f *testing.F) {
	f.Add(true, 0, []byte{})
	f.Add(false, 104, []byte{1})
	f.Add(true, 380, []byte(";")) // the number of entries: 253403070467
	f.Add(true, 500, []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(false, 320, []byte{1, 4, 0, 0, 0, 0, 0, 0, 0xf0})
	dir := f.TempDir() // and no inotify: to let go of a watch takes the kernel ten milliseconds
	f.Fuzz(func(t *testing.T, compact bool, at int, p []byte) {
		b := sample(compact, "one", "two", "three")
		if at < 0 || at+len(p) > len(b) {
			return
		}
		copy(b[at:], p)
		if err := os.WriteFile(filepath.Join(dir, "a.journal"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := &Reader{dirs: []string{dir}, name: "CONTAINER_NAME", value: "sample", known: map[fileID]bool{}}
		err := r.look()
		var lines []string
		if err == nil {
			lines, err = rest(r)
		}
		for _, p := range r.parts {
			if err := p.j.Close(); err != nil {
				t.Error(err)
			}
		}
		if len(p) == 0 && (err != nil || len(lines) != 3) {
			t.Fatalf("%q, %v", lines, err)
		}
		if len(lines) > len(b)/entryHead {
			t.Errorf("%d entries are in %d bytes", len(lines), len(b))
		}
	})
}
