package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/moss-containers/moss/pkg/moss"
)

var eventFilters = []string{
	"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume",
}

func (s *Server) events(w *response, r *request) error {
	since, err := r.moment("since")
	if err != nil {
		return err
	}
	until, err := r.moment("until")
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return moss.Errorf(moss.Invalid, "`since` time (%s) cannot be after `until` time (%s)", r.str("since"), r.str("until"))
	}
	f, err := parseFilters(r.str("filters"), eventFilters...)
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	switch {
	case !since.IsZero():
	case until.IsZero():
		since = s.now() // nothing may be missed between the header and the subscription
	default:
		since = time.Unix(0, 1) // an end alone asks for all that is kept, as docker has it
	}
	kind := "application/json"
	if !r.version.before(v1(52)) {
		kind = negotiate(r.Header.Values("Accept"))
	}
	w.Header().Set("Content-Type", kind)
	s.listeners.Add(1)
	defer s.listeners.Add(-1)
	w.flush()
	err = s.o.System.Events(ctx, since, until, func(e moss.Event) error {
		if !f.matchEvent(e) || e.Type == moss.ImageEvent && e.Action == "create" && r.version.before(v1(46)) {
			return nil
		}
		if err := writeEvent(w, kind, encodeEvent(e, r.version)); err != nil {
			return err
		}
		w.flush()
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// negotiate picks the first form of a stream of JSON that the client takes
// most gladly; application/json where it names none of them.
func negotiate(accept []string) string {
	best, weight := "application/json", 0.0
	for a := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, params, err := mime.ParseMediaType(a)
		if err != nil {
			continue
		}
		q := 1.0
		if v, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		switch kind {
		case "application/json", "application/jsonl", "application/x-ndjson", "application/json-seq":
			if q > weight {
				best, weight = kind, q
			}
		}
	}
	return best
}

func writeEvent(w *response, kind string, v any) error {
	var b bytes.Buffer
	if kind == "application/json-seq" {
		b.WriteByte(0x1e) // RFC 7464
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// oldEvent has the members that the API lost in 1.52.
type oldEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func encodeEvent(e moss.Event, v version) any {
	m := events.Message{
		Type: events.Type(e.Type), Action: events.Action(e.Action),
		Actor: events.Actor{ID: e.ActorID, Attributes: nonNil(e.Attributes)},
		Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}
	if !v.before(v1(52)) {
		return m
	}
	old := oldEvent{Message: m}
	switch e.Type {
	case moss.ContainerEvent:
		old.Status, old.ID, old.From = e.Action, e.ActorID, e.Attributes["image"]
	case moss.ImageEvent:
		old.Status, old.ID = e.Action, e.ActorID
	default: // others never had them
	}
	return old
}

func (f filters) matchEvent(e moss.Event) bool {
	name := e.Attributes["name"]
	for _, kind := range []string{"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"} {
		if f.has(kind) && (string(e.Type) != kind || !f.prefix(kind, e.ActorID, name)) {
			return false
		}
	}
	action, _, _ := strings.Cut(e.Action, ":") // "exec_start: sh" is found by exec_start
	return f.exact("event", e.Action, action) && f.exact("type", string(e.Type)) && f.exact("scope", "local") &&
		f.pairs("label", e.Attributes) && f.matchImage(e)
}

// matchImage fits an image's events and those of its containers, by id or name,
// the name with or without its tag.
func (f filters) matchImage(e moss.Event) bool {
	name := e.Attributes["image"]
	if e.Type == moss.ImageEvent {
		name = e.Attributes["name"]
	}
	return f.exact("image", e.ActorID, name, bareName(e.ActorID), bareName(name))
}

func bareName(s string) string {
	if ref, err := reference.ParseNormalizedNamed(s); err == nil {
		return reference.FamiliarName(ref)
	}
	return s
}
