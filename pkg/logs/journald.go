package logs

import (
	"strconv"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/logs/journal"
	"github.com/moss-containers/moss/pkg/moss"
)

// The fields of docker's journald driver that are read again, too.
const (
	fieldID      = "CONTAINER_ID_FULL"
	fieldEpoch   = "CONTAINER_LOG_EPOCH"
	fieldOrdinal = "CONTAINER_LOG_ORDINAL"
	fieldStamp   = "SYSLOG_TIMESTAMP"
	fieldPartial = "CONTAINER_PARTIAL_MESSAGE"
	fieldPartID  = "CONTAINER_PARTIAL_ID"
	fieldPart    = "CONTAINER_PARTIAL_ORDINAL"
	fieldLast    = "CONTAINER_PARTIAL_LAST"
)

// maxEntries is how many bytes of entries are sent to the journal at once.
const maxEntries = 64 << 10

// journaldRun is a run that is logged to the journal.
type journaldRun struct {
	conn  *journal.Conn
	fixed []byte // fields of every entry
	epoch string
	buf   []byte

	mu    sync.Mutex
	sent  uint64 // ordinal of the last entry
	ended chan struct{}
}

// openJournald begins a run.
func (l *Logs) openJournald(c *moss.Container) (moss.LogSink, error) {
	fixed, err := journaldFields(c)
	if err != nil {
		return nil, err
	}
	r := &journaldRun{epoch: moss.NewHexID(), ended: make(chan struct{})}
	r.fixed = journal.AppendField(fixed, fieldEpoch, []byte(r.epoch))
	if r.conn, err = journal.Dial(l.journal.Socket); err != nil {
		return nil, moss.Errorf(moss.Unavailable, "cannot reach the journal: %v", err)
	}
	l.mu.Lock()
	old := l.journald[c.ID]
	l.journald[c.ID] = r
	l.mu.Unlock()
	if old != nil {
		old.end()
	}
	return newLineSink(r, c.Dir)
}

func journaldFields(c *moss.Container) ([]byte, error) {
	tag, err := tagOf(c, "{{.ID}}")
	if err != nil {
		return nil, err
	}
	more, err := extras(c, journal.FieldName)
	if err != nil {
		return nil, err
	}
	i := infoOf(c)
	more[fieldID], more["CONTAINER_ID"], more["CONTAINER_NAME"] = i.FullID(), i.ID(), i.Name()
	more["CONTAINER_TAG"], more["SYSLOG_IDENTIFIER"], more["IMAGE_NAME"] = tag, tag, i.ImageName()
	var b []byte
	for k, v := range more {
		if k != "" {
			b = journal.AppendField(b, k, []byte(v))
		}
	}
	return b, nil
}

func (r *journaldRun) send(ms []message) error {
	b := r.buf[:0]
	r.mu.Lock()
	n := r.sent
	r.mu.Unlock()
	var failed error
	flush := func() {
		if err := r.conn.Send(b); err != nil && failed == nil {
			failed = moss.Wrap(err, "write to the journal", "")
		}
		b = b[:0]
		r.mu.Lock()
		r.sent = n
		r.mu.Unlock()
	}
	for i := range ms {
		n++
		b = r.appendEntry(b, &ms[i], n)
		if len(b) >= maxEntries {
			flush()
		}
	}
	if len(b) > 0 {
		flush()
	}
	if r.buf = b; cap(b) > maxKept {
		r.buf = nil
	}
	return failed
}

func (r *journaldRun) appendEntry(b []byte, m *message, n uint64) []byte {
	b = append(b, r.fixed...)
	b = append(b, "PRIORITY=6\n"...)
	if m.kind == moss.Stderr {
		b[len(b)-2] = '3'
	}
	b = append(m.at.UTC().AppendFormat(append(b, fieldStamp+"="...), time.RFC3339Nano), '\n')
	b = append(strconv.AppendUint(append(b, fieldOrdinal+"="...), n, 10), '\n')
	if p := m.part; p.id != "" {
		b = journal.AppendField(b, fieldPartID, []byte(p.id))
		b = append(strconv.AppendInt(append(b, fieldPart+"="...), int64(p.ordinal), 10), '\n')
		b = append(strconv.AppendBool(append(b, fieldLast+"="...), p.last), '\n')
		if !p.last {
			b = append(b, fieldPartial+"=true\n"...)
		}
	}
	return journal.AppendEnd(journal.AppendField(b, "MESSAGE", m.text))
}

// last returns what a reader must see before it has seen all.
func (r *journaldRun) last() (epoch string, ordinal uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch, r.sent
}

// Close ends the run. It stays known: its last entries may be on their way.
func (r *journaldRun) Close() error {
	r.end()
	return r.conn.Close()
}

func (r *journaldRun) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
}
