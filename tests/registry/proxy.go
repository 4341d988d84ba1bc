package registry

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what the proxy does to a request, in place of or on top of passing it on.
type Fault struct {
	Path   string // in the request's path; "" for all
	Method string // "" for all
	Times  int    // how often; 0 for always
	After  int    // spared that many times first

	Status     int           // answers so
	RetryAfter string        // with it
	DropAfter  int64         // of the answer's body so many bytes, then the connection ends; -1 resets it before an answer
	Reset      bool          // with DropAfter: a reset, which may overtake some of the bytes
	Truncate   int64         // of the answer's body so many bytes, then its end, as if it were all
	Corrupt    int64         // changes the byte of the answer's body at that place, counted from 1
	Delay      time.Duration // before anything
	Hold       chan struct{} // nothing before it is closed
	Rate       int           // of the answer's body so many bytes a second; the only one that goes with others
	Stall      bool          // with DropAfter: silence until the client leaves
}

// Proxy stands in front of a registry.
type Proxy struct {
	Host string

	to     string
	client *http.Client
	server *http.Server

	mu     sync.Mutex
	faults []*Fault
	seen   []*Request
}

// Request is one that the proxy saw.
type Request struct {
	Method, Path, Range string
	Query               string
	Host                string
	Authorization       string

	Status int   // that the registry answered with
	Sent   int64 // bytes of the answer's body
	Over   bool  // nothing more will be sent
	Left   bool  // the client ended the connection before its time
}

// NewProxy starts one for a test.
func NewProxy(t testing.TB, r *Registry) *Proxy {
	t.Helper()
	p, err := StartProxy(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// StartProxy starts one that is to be stopped. It talks plain HTTP to its clients.
func StartProxy(r *Registry) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := r.Remote()
	tr := &http.Transport{DisableCompression: true}
	if r.TLS {
		tr = m.Client.Transport.(*http.Transport).Clone()
	}
	p := &Proxy{Host: l.Addr().String(), to: m.URL, client: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve)}
	go p.server.Serve(l)
	return p, nil
}

// Stop ends it and all its connections.
func (p *Proxy) Stop() {
	p.server.Close()
	p.client.CloseIdleConnections()
}

// Fault adds one; the first that fits a request is what happens to it.
func (p *Proxy) Fault(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &f)
}

// Heal forgets the faults and what was seen.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen = nil, nil
}

// Seen lists the requests whose path has a part, with that method or any for "".
func (p *Proxy) Seen(method, part string) (list []Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.seen {
		if strings.Contains(r.Path, part) && (method == "" || r.Method == method) {
			list = append(list, *r)
		}
	}
	return list
}

// Count is how many they are.
func (p *Proxy) Count(method, part string) int { return len(p.Seen(method, part)) }

// next notes a request and finds what is to be done to it.
func (p *Proxy) next(r *http.Request) (Fault, *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := &Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Range: r.Header.Get("Range"),
		Host: r.Host, Authorization: r.Header.Get("Authorization"),
	}
	p.seen = append(p.seen, seen)
	for i, f := range p.faults {
		if !strings.Contains(r.URL.Path, f.Path) || (f.Method != "" && f.Method != r.Method) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		hit := *f
		if f.Times == 1 {
			p.faults = slices.Delete(p.faults, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		return hit, seen
	}
	return Fault{}, seen
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	f, seen := p.next(r)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		seen.Over, seen.Left = true, r.Context().Err() != nil
	}()
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-r.Context().Done():
			return
		}
	}
	if f.Status != 0 {
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		w.WriteHeader(f.Status)
		return
	}
	if f.DropAfter < 0 {
		hangUp(w, true)
		return
	}
	resp, err := p.pass(r.Context(), r)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	p.mu.Lock()
	seen.Status = resp.StatusCode
	p.mu.Unlock()
	maps.Copy(w.Header(), resp.Header)
	if f.Truncate > 0 {
		w.Header().Del("Content-Length") // or the client would notice at once
	}
	w.WriteHeader(resp.StatusCode)
	f.body(r.Context(), &counter{ResponseWriter: w, p: p, seen: seen, ctx: r.Context(), rate: f.Rate}, resp.Body)
}

// counter counts what is sent, and slows it down.
type counter struct {
	http.ResponseWriter
	p    *Proxy
	seen *Request
	ctx  context.Context //nolint:containedctx // of one request
	rate int
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counter) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, c.piece(len(b))) {
		m, err := c.ResponseWriter.Write(piece)
		n += m
		c.p.mu.Lock()
		c.seen.Sent += int64(m)
		c.p.mu.Unlock()
		if err != nil {
			return n, err
		}
		if c.rate == 0 {
			continue
		}
		if err := http.NewResponseController(c.ResponseWriter).Flush(); err != nil {
			return n, err
		}
		select {
		case <-time.After(time.Second * time.Duration(m) / time.Duration(c.rate)):
		case <-c.ctx.Done():
			return n, c.ctx.Err()
		}
	}
	return n, nil
}

// piece is how much goes out at a time: a twentieth of a second's worth.
func (c *counter) piece(all int) int {
	if c.rate == 0 {
		return max(all, 1)
	}
	return max(c.rate/20, 1)
}

// body copies the answer as the fault has it.
func (f Fault) body(ctx context.Context, w http.ResponseWriter, body io.Reader) {
	switch {
	case f.DropAfter > 0:
		_, _ = io.CopyN(w, body, f.DropAfter)
		_ = http.NewResponseController(w).Flush()
		if f.Stall {
			<-ctx.Done()
		}
		hangUp(w, f.Reset)
	case f.Truncate > 0:
		_, _ = io.CopyN(w, body, f.Truncate)
	case f.Corrupt > 0:
		_, _ = io.CopyN(w, body, f.Corrupt-1)
		b := make([]byte, 1)
		if n, _ := io.ReadFull(body, b); n == 1 {
			_, _ = w.Write([]byte{b[0] ^ 0x55})
		}
		_, _ = io.Copy(w, body)
	default:
		_, _ = io.Copy(w, body)
	}
}

// hangUp ends the client's connection, the hard way where asked for.
func hangUp(w http.ResponseWriter, reset bool) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

func (p *Proxy) pass(ctx context.Context, r *http.Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, p.to+r.URL.RequestURI(), r.Body)
	if err != nil {
		return nil, err
	}
	req.Header, req.ContentLength = r.Header.Clone(), r.ContentLength
	if r.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.Host = r.Host
	return p.client.Do(req)
}
