package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// segmentSize is how large a file of events becomes before the next one begins; there are two.
const segmentSize = 512 << 10

// disk keeps events over a restart: a line of JSON each, in a file that becomes
// the older one, path.1, when it is full. A line is one write; one that a kill
// has torn is left out when it is read. Nothing is synced: a loss of power costs
// the last seconds.
type disk struct {
	path string
	file *os.File
	size int64
}

// line is an event as it is written.
type line struct {
	Time       time.Time         `json:"time"`
	Type       moss.EventType    `json:"type"`
	Action     string            `json:"action"`
	Actor      string            `json:"actor,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// openDisk takes the files over that an earlier daemon left.
func openDisk(path string) (*disk, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	d := &disk{path: path, file: f}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.size = st.Size()
	last := []byte{'\n'}
	if d.size > 0 {
		if _, err := f.ReadAt(last, d.size-1); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if last[0] != '\n' { // torn
		err = d.append([]byte{'\n'})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// write adds an event.
func (d *disk) write(e moss.Event) error {
	b, err := json.Marshal(line{e.Time, e.Type, e.Action, e.ActorID, e.Attributes})
	if err != nil {
		return err
	}
	if d.size > 0 && d.size+int64(len(b)) >= segmentSize {
		if err := d.turn(); err != nil {
			return err
		}
	}
	return d.append(append(b, '\n'))
}

func (d *disk) append(b []byte) error {
	n, err := d.file.Write(b)
	d.size += int64(n)
	return err
}

// turn begins the next file.
func (d *disk) turn() error {
	if err := os.Rename(d.path, d.path+".1"); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	old := d.file
	d.file, d.size = f, 0
	return old.Close()
}

// past opens all that is there now, to be read when nobody has to wait.
func (d *disk) past() (*past, error) {
	p := &past{}
	older, err := os.Open(d.path + ".1")
	switch {
	case err == nil:
		p.files, p.readers = append(p.files, older), append(p.readers, older)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	now, err := os.Open(d.path)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.files, p.readers = append(p.files, now), append(p.readers, io.NewSectionReader(now, 0, d.size))
	return p, nil
}

// past is the history up to a moment.
type past struct {
	files   []*os.File
	readers []io.Reader
}

func (p *past) close() error {
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// read calls fn with each event from since on.
func (p *past) read(since time.Time, fn func(moss.Event) error) error {
	for _, r := range p.readers {
		b := bufio.NewReader(r)
		for {
			text, err := b.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			var l line
			if json.Unmarshal(bytes.TrimSpace(text), &l) != nil || l.Time.IsZero() || l.Time.Before(since) {
				continue
			}
			if err := fn(moss.Event{Type: l.Type, Action: l.Action, ActorID: l.Actor, Attributes: l.Attributes, Time: l.Time}); err != nil {
				return err
			}
		}
	}
	return nil
}
