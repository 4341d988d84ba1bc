package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// query is the parameters of a request's URL.
type query struct{ values url.Values }

func parseQuery(r *http.Request) (query, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, moss.Errorf(moss.Invalid, "invalid query: %w", err)
	}
	return query{v}, nil
}

func (q query) has(key string) bool      { return q.values.Has(key) }
func (q query) str(key string) string    { return q.values.Get(key) }
func (q query) strs(key string) []string { return q.values[key] }
func (q query) flag(key string) bool     { return truth(q.values.Get(key)) }
func (q query) flagOr(k string, d bool) bool {
	if !q.has(k) {
		return d
	}
	return q.flag(k)
}

// truth is docker's idea of a true parameter.
func truth(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// integer reads a whole number; missing gives def.
func (q query) integer(key string, def int) (int, error) {
	s := q.str(key)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, moss.Errorf(moss.Invalid, "invalid value %q for %s: not a whole number", s, key)
	}
	return n, nil
}

// size reads the size of a terminal from h and w.
func (q query) size() (moss.TermSize, error) {
	var out [2]uint16
	for i, key := range []string{"h", "w"} {
		word := [...]string{"height", "width"}[i]
		n, err := strconv.ParseUint(q.str(key), 10, 16)
		if err != nil {
			return moss.TermSize{}, moss.Errorf(moss.Invalid, "invalid resize %s %q: %w", word, q.str(key), errors.Unwrap(err))
		}
		out[i] = uint16(n)
	}
	return moss.TermSize{Rows: out[0], Cols: out[1]}, nil
}

// moment reads a time as docker's clients send it: seconds since the epoch
// with up to nine decimals. Missing or 0 gives the zero time.
func (q query) moment(key string) (time.Time, error) {
	return parseMoment(key, q.str(key))
}

func parseMoment(key, s string) (time.Time, error) {
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	bad := moss.Errorf(moss.Invalid, "invalid value %q for %s: want seconds since 1970, such as 1700000000.123456789", s, key)
	secs, frac, dotted := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(secs, 10, 64)
	if err != nil {
		return time.Time{}, bad
	}
	var nano int64
	if dotted {
		if len(frac) == 0 || len(frac) > 9 || strings.Trim(frac, "0123456789") != "" {
			return time.Time{}, bad
		}
		nano, _ = strconv.ParseInt(frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	}
	if sec == 0 && nano == 0 {
		return time.Time{}, nil
	}
	return time.Unix(sec, nano), nil
}

// decodeStrict reads a request's body, which must be one JSON value of at most
// maxJSON bytes without members that out does not know. An empty body leaves out as it is.
func decodeStrict(w http.ResponseWriter, r *http.Request, out any) error {
	body, err := readJSON(w, r)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := unmarshal(body, out); err != nil {
		return err
	}
	return refuseUnknown(body, reflect.TypeOf(out), "")
}

func unmarshal(body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		if e := (*json.SyntaxError)(nil); errors.As(err, &e) && strings.Contains(err.Error(), "after top-level value") {
			return moss.Errorf(moss.Invalid, "unexpected content after JSON")
		}
		return moss.Errorf(moss.Invalid, "invalid JSON: %w", err)
	}
	return nil
}

// bodyTimeout is how long a client may take to send a small body.
const bodyTimeout = time.Minute

// smallBody reads one. A client that does not send what it has announced holds
// nothing for ever.
func smallBody(w http.ResponseWriter, r *http.Request, limit time.Duration) ([]byte, error) {
	within := http.NewResponseController(w)
	_ = within.SetReadDeadline(time.Now().Add(limit)) // a test's has no connection
	body, err := io.ReadAll(http.MaxBytesReader(innermost(w), r.Body, maxJSON))
	if err == nil { // else net/http would wait for the rest
		_ = within.SetReadDeadline(time.Time{})
	}
	return body, err
}

// innermost is net/http's own writer: it closes the connection when MaxBytesReader tells it to.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxJSON {
		return nil, moss.Errorf(moss.TooLarge, "the request's body is %d bytes long, the limit is %d", r.ContentLength, maxJSON)
	}
	ct := r.Header.Get("Content-Type")
	if ct == "" && r.ContentLength == 0 {
		return nil, nil
	}
	if ct != "" || r.ContentLength != 0 {
		kind, _, err := mime.ParseMediaType(ct)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "malformed Content-Type header (%s): %w", ct, err)
		}
		if kind != "application/json" {
			return nil, moss.Errorf(moss.Invalid, "unsupported Content-Type header (%s): must be 'application/json'", ct)
		}
	}
	body, err := smallBody(w, r, bodyTimeout)
	if e := (*http.MaxBytesError)(nil); errors.As(err, &e) {
		return nil, moss.Errorf(moss.TooLarge, "the request's body is over the limit of %d bytes", e.Limit)
	}
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "cannot read the request's body: %w", err)
	}
	return body, nil
}
