package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/moss-containers/moss/pkg/moss"
)

// progressEvery is how often what has changed is sent: no layer's count more
// often, and all of them in one write.
const progressEvery = 100 * time.Millisecond

// message is one line of the stream: docker's, with the members that older
// versions had.
type message struct {
	jsonstream.Message
	Text  string `json:"progress,omitempty"` // what the counts look like; until 1.51
	Error string `json:"error,omitempty"`    // the same as errorDetail; many clients look for it
}

// progress is an answer of JSON objects, one a line, that begins with the first
// of them. A slow client holds up nothing but its own answer: the lines are
// queued, and of a layer's counts only the latest waits.
type progress struct {
	w      *response
	enc    *json.Encoder
	old    bool               // wants the counts as text too
	upload bool               // the request's body may still be on its way
	gone   context.CancelFunc // called when the client has gone
	wake   chan struct{}      // has room for one
	end    chan struct{}      // closed when nothing will be queued any more
	done   chan struct{}      // closed when the writer has ended
	finish func()             // closes end and waits for done, once

	mu     sync.Mutex
	queue  []message      // guarded by mu
	counts map[string]int // where in queue a layer's latest line is; guarded by mu
	begun  bool           // something was sent or will be; guarded by mu
}

// tell does a work that reports its progress. The work's context ends when the
// client leaves or the server closes. An error becomes the status where nothing
// was reported, else the last line.
func (s *Server) tell(w *response, r *request, work func(ctx context.Context, p *progress) error) error {
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	p := &progress{
		w: w, enc: json.NewEncoder(w), old: r.version.before(v1(52)), upload: r.ContentLength != 0, gone: cancel,
		wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{}), counts: map[string]int{},
	}
	p.enc.SetEscapeHTML(false)
	p.finish = sync.OnceFunc(func() { close(p.end); <-p.done })
	go p.write()
	defer p.finish() // also after a panic: nobody may write once the handler has returned

	err := s.why(work(ctx, p))
	if err != nil && p.hasBegun() {
		if moss.ClassOf(err) == moss.Internal {
			s.log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		p.send(message{Message: jsonstream.Message{Error: &jsonstream.Error{Code: statusOf(err), Message: err.Error()}}, Error: err.Error()})
		err = nil
	}
	p.finish()
	if err == nil && !w.begun {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
	}
	return err
}

func (p *progress) hasBegun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// report sends one report of a task. It does not block.
func (p *progress) report(n moss.Progress) {
	m := message{Message: jsonstream.Message{ID: n.ID, Status: n.Status}}
	// The docker command gives a line of its own to what has an id and a detail,
	// which the tag's one line must not have.
	if n.ID != "" && !strings.HasPrefix(n.Status, "Pulling from ") || n.Current > 0 || n.Total > 0 {
		m.Progress = &jsonstream.Progress{Current: n.Current, Total: n.Total}
		if p.old {
			m.Text = bar(n.Current, n.Total)
		}
	}
	p.send(m)
}

func (p *progress) status(text string) { p.send(message{Message: jsonstream.Message{Status: text}}) }

func (p *progress) stream(text string) { p.send(message{Message: jsonstream.Message{Stream: text}}) }

// aux sends what is for the client's program, not for its user.
func (p *progress) aux(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	raw := json.RawMessage(b)
	p.send(message{Message: jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: &raw}})
	return nil
}

func (p *progress) send(m message) {
	p.mu.Lock()
	p.begun = true
	if i, waits := p.counts[m.ID]; waits && m.Progress != nil && m.Aux == nil && p.queue[i].Status == m.Status {
		p.queue[i] = m
	} else {
		if m.Progress != nil && m.Aux == nil {
			p.counts[m.ID] = len(p.queue)
		}
		p.queue = append(p.queue, m)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write sends what is queued until the end: at once after a silence, else in
// steps of progressEvery.
func (p *progress) write() {
	defer close(p.done)
	for {
		ended := false
		select {
		case <-p.wake:
		case <-p.end:
			ended = true
		}
		lines := p.take()
		for _, m := range lines {
			if !p.line(m) {
				return
			}
		}
		if len(lines) > 0 {
			p.w.flush()
		}
		if ended {
			return
		}
		select {
		case <-time.After(progressEvery):
		case <-p.end:
		}
	}
}

func (p *progress) take() []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.queue
	p.queue = nil
	clear(p.counts)
	return lines
}

// line writes one line; when the client has gone the work is told to end.
func (p *progress) line(m message) bool {
	if !p.w.begun {
		p.w.Header().Set("Content-Type", "application/json")
		// The answer may begin while the request's body is still being read; such a
		// connection cannot be used for another request.
		if p.upload && http.NewResponseController(p.w.ResponseWriter).EnableFullDuplex() == nil {
			p.w.Header().Set("Connection", "close")
		}
	}
	if err := p.enc.Encode(m); err != nil {
		p.gone()
		return false
	}
	return true
}

// bar draws counts as docker's daemons did for the oldest clients.
func bar(current, total int64) string {
	switch {
	case current <= 0 && total <= 0:
		return ""
	case total <= 0 || current > total:
		return units.HumanSize(float64(current))
	}
	n := int(current * 50 / total)
	return "[" + strings.Repeat("=", n) + ">" + strings.Repeat(" ", 50-n) + "] " + units.HumanSize(float64(current)) + "/" + units.HumanSize(float64(total))
}
