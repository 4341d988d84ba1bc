package api

import (
	"bytes"
	"encoding/json"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/moss-containers/moss/pkg/moss"
)

// rows keeps how containers look in a list, but for their status, which tells the
// time. Of a thousand stopped containers all look as they did when somebody asked
// last. A row goes with the record it was made of.
type rows struct {
	mu   sync.Mutex
	kept map[rowKey]row
}

type rowKey struct {
	record weak.Pointer[moss.Container]
	form   version // the first one that has the fields of the row
}

// row is what comes before the status, and after.
type row struct{ before, after []byte }

// statusMark stands for the status in a row that is made.
const statusMark = "the status of moss is not known yet"

var statusField = []byte(`"Status":"` + statusMark + `"`)

// list is the answer for containers; sizes are of those that have them told.
func (rs *rows) list(all []*moss.Container, sizes map[moss.ContainerID]moss.ContainerUsage, v version, now time.Time) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, len(all)<<10+8))
	out.WriteByte('[')
	for i, c := range all {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := rs.write(out, c, sizes, v, now); err != nil {
			return nil, err
		}
	}
	out.WriteString("]\n")
	return out.Bytes(), nil
}

func (rs *rows) write(out *bytes.Buffer, c *moss.Container, sizes map[moss.ContainerID]moss.ContainerUsage, v version, now time.Time) error {
	if sizes != nil || len(c.LinkedAs) > 0 { // no two such are one record
		sum := encodeSummary(c, v, now)
		sum.SizeRw, sum.SizeRootFs = sizes[c.ID].Written, sizes[c.ID].Total
		return writeRow(out, sum)
	}
	r, ok := rs.get(rowKey{weak.Make(c), form(v)})
	if !ok {
		sum := encodeSummary(c, v, now)
		sum.Status = statusMark
		var b bytes.Buffer
		if err := writeRow(&b, sum); err != nil {
			return err
		}
		if bytes.Count(b.Bytes(), statusField) != 1 { // a label that says so
			return writeRow(out, encodeSummary(c, v, now))
		}
		r.before, r.after, _ = bytes.Cut(bytes.Clone(b.Bytes()), statusField)
		rs.keep(c, form(v), r)
	}
	status, err := json.Marshal(statusText(c, now))
	if err != nil {
		return err
	}
	out.Write(r.before)
	out.WriteString(`"Status":`)
	out.Write(status)
	out.Write(r.after)
	return nil
}

// form is the first version that has the same fields.
func form(v version) version {
	for _, since := range []version{v1(52), v1(46)} {
		if !v.before(since) {
			return since
		}
	}
	return v1(24)
}

func (rs *rows) get(k rowKey) (row, bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r, ok := rs.kept[k]
	return r, ok
}

func (rs *rows) keep(c *moss.Container, form version, r row) {
	k := rowKey{weak.Make(c), form}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.kept == nil {
		rs.kept = map[rowKey]row{}
	}
	if _, there := rs.kept[k]; !there { // another request may have been faster
		rs.kept[k] = r
		runtime.AddCleanup(c, rs.drop, k)
	}
}

func (rs *rows) drop(k rowKey) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.kept, k)
}

// writeRow encodes without the line's end.
func writeRow(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1)
	return nil
}
