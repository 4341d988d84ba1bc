package journal

import (
	"strings"
	"time"
)

// Entries are those entries of a file that have a field with a value.
type Entries struct {
	j       *File
	payload string
	data    uint64 // 0 until the file has it
	first   uint64
	n       uint64 // how many there are
	arrays  []array
}

// array is a part of the list of a field's entries.
type array struct {
	at    uint64
	start uint64 // the number of its first entry
	n     uint64 // room
	next  uint64
}

// With returns the entries that have a field with a value.
func (j *File) With(name, value string) (*Entries, error) {
	e := &Entries{j: j, payload: name + "=" + value}
	_, err := e.Len()
	return e, err
}

// Len returns how many there are by now.
func (e *Entries) Len() (int, error) {
	if e.data == 0 {
		at, err := e.j.find(e.payload)
		if err != nil || at == 0 {
			return 0, err
		}
		e.data = at
	}
	o, _, err := e.j.data(e.data)
	if err != nil {
		return 0, err
	}
	e.first = le.Uint64(o[40:])
	st, err := e.j.f.Stat()
	if err != nil {
		return 0, err
	}
	// A damaged number would have as many looked for: a file has no more than fit into it.
	e.n = max(e.n, min(le.Uint64(o[56:]), uint64(st.Size())/entryHead))
	if len(e.arrays) == 0 && e.n > 1 {
		if err := e.addArray(le.Uint64(o[48:]), 1); err != nil {
			return 0, err
		}
	}
	return int(e.n), nil
}

func (e *Entries) item() uint64 {
	if e.j.compact {
		return 4
	}
	return 8
}

func (e *Entries) addArray(at, start uint64) error {
	var b [24]byte
	if at == 0 || at%8 != 0 {
		return errDamaged
	}
	if err := e.j.read(b[:], at); err != nil {
		return err
	}
	size := le.Uint64(b[8:])
	if b[0] != arrayObject || size < 24+e.item() {
		return errDamaged
	}
	e.arrays = append(e.arrays, array{at: at, start: start, n: (size - 24) / e.item(), next: le.Uint64(b[16:])})
	return nil
}

// offset returns where the i-th entry is.
func (e *Entries) offset(i uint64) (uint64, error) {
	if i == 0 {
		return e.first, nil
	}
	for {
		last := &e.arrays[len(e.arrays)-1]
		if i < last.start+last.n {
			break
		}
		if last.next == 0 { // it was written since
			var b [8]byte
			if err := e.j.read(b[:], last.at+16); err != nil {
				return 0, err
			}
			last.next = le.Uint64(b[:])
		}
		if err := e.addArray(last.next, last.start+last.n); err != nil {
			return 0, err
		}
	}
	k := len(e.arrays) - 1
	for e.arrays[k].start > i {
		k--
	}
	a := e.arrays[k]
	var b [8]byte
	if err := e.j.read(b[:e.item()], a.at+24+(i-a.start)*e.item()); err != nil {
		return 0, err
	}
	if e.j.compact {
		return uint64(le.Uint32(b[:4])), nil
	}
	return le.Uint64(b[:]), nil
}

// Entry is one entry. Of a field that it has several times, Fields has one.
type Entry struct {
	Seqnum uint64
	Time   time.Time // when journald took it
	Fields map[string]string
}

// At reads the i-th entry, the oldest being number 0.
func (e *Entries) At(i int) (Entry, error) {
	if i < 0 || uint64(i) >= e.n {
		return Entry{}, errDamaged
	}
	at, err := e.offset(uint64(i))
	if err != nil {
		return Entry{}, err
	}
	return e.j.entry(at)
}

func (j *File) entry(at uint64) (Entry, error) {
	_, b, err := j.object(at, entryObject)
	if err != nil {
		return Entry{}, err
	}
	if len(b) < entryHead {
		return Entry{}, errDamaged
	}
	out := Entry{Seqnum: le.Uint64(b[16:]), Time: micros(le.Uint64(b[24:])), Fields: map[string]string{}}
	size := 16
	if j.compact {
		size = 4
	}
	for b = b[entryHead:]; len(b) >= size; b = b[size:] {
		item := uint64(le.Uint32(b))
		if !j.compact {
			item = le.Uint64(b)
		}
		if item == 0 {
			continue
		}
		text, err := j.text(item)
		if err != nil {
			return Entry{}, err
		}
		if name, value, ok := strings.Cut(text, "="); ok {
			out.Fields[name] = value
		}
	}
	return out, nil
}

const (
	maxTexts = 1 << 10 // that are remembered
	maxShort = 256     // of one that is
)

// text returns a data's payload. Most of an entry's are those of the one before.
func (j *File) text(at uint64) (string, error) {
	if s, ok := j.texts[at]; ok {
		return s, nil
	}
	_, p, err := j.data(at)
	if err != nil {
		return "", err
	}
	s := string(p)
	if len(s) <= maxShort {
		if len(j.texts) >= maxTexts {
			clear(j.texts)
		}
		j.texts[at] = s
	}
	return s, nil
}
