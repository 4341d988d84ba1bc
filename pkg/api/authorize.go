package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Plugins calls plugins.
type Plugins interface {
	Call(ctx context.Context, c moss.PluginCall) error
	// Having names the plugins of a kind, and says of those that cannot tell why.
	Having(ctx context.Context, kind string) (names []string, dead map[string]error)
}

const (
	// maxAuthzBody bounds what authorization plugins are shown of a body: docker's limit.
	maxAuthzBody = 1 << 20
	// maxHeld bounds what is held back of an answer that they are not shown.
	maxHeld = 64 << 10

	authzTimeout  = 30 * time.Second
	authzPatience = time.Second // while a plugin is restarted
)

// Authorize puts plugins in charge: every request is shown to each of them, in
// order, and so is its answer before it is sent. None means that nobody is asked.
func (s *Server) Authorize(plugins []string) {
	var once []string
	for _, name := range plugins {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	s.authorizers.Store(&once)
}

func (s *Server) authorizing() []string {
	if names := s.authorizers.Load(); names != nil {
		return *names
	}
	return nil
}

// authzRequest is what a plugin is shown; the names are docker's.
type authzRequest struct {
	User                    string            `json:",omitempty"`
	UserAuthNMethod         string            `json:",omitempty"`
	RequestMethod           string            `json:",omitempty"`
	RequestURI              string            `json:"RequestUri,omitempty"`
	RequestBody             []byte            `json:",omitempty"`
	RequestHeaders          map[string]string `json:",omitempty"`
	RequestPeerCertificates [][]byte          `json:",omitempty"` // PEM
	ResponseStatusCode      int               `json:",omitempty"`
	ResponseBody            []byte            `json:",omitempty"`
	ResponseHeaders         map[string]string `json:",omitempty"`
}

// verdict is what a plugin says.
type verdict struct {
	Allow bool
	Msg   string
	Err   string
}

// authorization is one request under the eyes of plugins. It stands between the
// handler and the client: the answer is held back until the plugins have seen it,
// or as much as there is of one that is long, goes on, or takes the connection over.
type authorization struct {
	http.ResponseWriter
	s       *Server
	ctx     context.Context    // of the plugins' calls
	end     context.CancelFunc // of the handler: a refused stream has no reader
	plugins []string
	shown   authzRequest

	status  int // 0 while none is set
	body    bytes.Buffer
	passed  bool // the plugins have allowed it, and what was held back is sent
	refused error
}

// authorize shows a request to the plugins. Where they allow it, w holds the answer
// back until finish, and the request is the one to go on with.
func (s *Server) authorize(w *response, r *http.Request) (*http.Request, error) {
	names := s.authorizing()
	if len(names) == 0 {
		return r, nil
	}
	a := &authorization{ResponseWriter: w.ResponseWriter, s: s, ctx: r.Context(), plugins: names}
	a.shown = authzRequest{RequestMethod: r.Method, RequestURI: r.RequestURI, RequestHeaders: shownHeaders(r.Header)}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		a.shown.User, a.shown.UserAuthNMethod = r.TLS.PeerCertificates[0].Subject.CommonName, "TLS"
		for _, c := range r.TLS.PeerCertificates {
			a.shown.RequestPeerCertificates = append(a.shown.RequestPeerCertificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
	}
	if shownBody(r.URL.Path, r.Header) {
		if err := a.readBody(r); err != nil {
			return r, err
		}
	}
	if err := a.ask("AuthZPlugin.AuthZReq"); err != nil {
		return r, err
	}
	w.ResponseWriter, w.authorization = a, a
	ctx, cancel := context.WithCancel(r.Context())
	a.end = cancel
	return r.WithContext(ctx), nil
}

// readBody takes the body to show it, and gives it back. What is too long to be
// shown is refused: unseen, it could say anything.
func (a *authorization) readBody(r *http.Request) error {
	if r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAuthzBody+1))
	if err != nil {
		return moss.Errorf(moss.Invalid, "cannot read the request's body: %w", err)
	}
	if len(body) > maxAuthzBody {
		return moss.Errorf(moss.TooLarge, "the request's body is longer than the %d bytes that authorization plugins are shown", maxAuthzBody)
	}
	a.shown.RequestBody = body
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), r.Body}
	return nil
}

// ask asks one plugin after the other; all must allow.
func (a *authorization) ask(method string) error {
	for _, name := range a.plugins {
		var v verdict
		err := a.s.o.Plugins.Call(a.ctx, moss.PluginCall{
			Plugin: name, Kind: moss.AuthzPlugin, Method: method, In: &a.shown, Out: &v, Timeout: authzTimeout, Patience: authzPatience,
		})
		switch {
		case err != nil:
			return moss.Errorf(moss.Internal, "plugin %s failed with error: %w", name, err)
		case !v.Allow && v.Msg == "":
			return moss.Errorf(moss.Forbidden, "authorization denied by plugin %s: %s", name, v.Err)
		case !v.Allow:
			return moss.Errorf(moss.Forbidden, "authorization denied by plugin %s: %s", name, v.Msg)
		}
	}
	return nil
}

var authEndpoint = regexp.MustCompile(`^/(v\d[\d.]*/)?auth`)

// shownBody says whether plugins are shown a body: JSON, but no passwords.
func shownBody(path string, h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/json" && !authEndpoint.MatchString(path)
}

// shownHeaders are all but those with passwords, each with its last value.
func shownHeaders(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for k, values := range h {
		secret := slices.ContainsFunc([]string{"Authorization", "X-Registry-Auth", "X-Registry-Config"}, func(s string) bool { return strings.EqualFold(s, k) })
		if !secret && len(values) > 0 {
			out[k] = values[len(values)-1]
		}
	}
	return out
}

// WriteHeader keeps the status, or sends it.
func (a *authorization) WriteHeader(status int) {
	switch {
	case a.refused != nil:
	case a.passed, status < http.StatusOK: // what only announces an answer
		a.ResponseWriter.WriteHeader(status)
	case a.status == 0:
		a.status = status
	}
}

// Write keeps what fits, or sends it.
func (a *authorization) Write(p []byte) (int, error) {
	if !a.passed && a.refused == nil {
		limit := maxHeld
		if shownBody(a.shown.RequestURI, a.Header()) {
			limit = maxAuthzBody
		}
		if a.body.Len()+len(p) <= limit {
			return a.body.Write(p)
		}
		a.release(a.body.Len()+len(p) <= maxAuthzBody)
	}
	if a.refused != nil {
		return 0, a.refused
	}
	return a.ResponseWriter.Write(p)
}

// release shows the plugins what is there of the answer, and sends it or their
// refusal in its place.
func (a *authorization) release(whole bool) {
	if a.passed || a.refused != nil {
		return
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.shown.ResponseStatusCode, a.shown.ResponseHeaders = a.status, shownHeaders(a.Header())
	if whole && shownBody(a.shown.RequestURI, a.Header()) {
		a.shown.ResponseBody = a.body.Bytes()
	}
	if a.refused = a.ask("AuthZPlugin.AuthZRes"); a.refused != nil {
		h := a.Header()
		for _, k := range []string{"Content-Length", "Content-Type", "Upgrade", "Connection", "X-Docker-Container-Path-Stat"} {
			h.Del(k)
		}
		writeError(&response{ResponseWriter: a.ResponseWriter}, a.refused, version{})
		a.end()
		return
	}
	a.passed = true
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(a.body.Bytes()) // a lost client shows at the next write
	a.body = bytes.Buffer{}
}

// FlushError lets out an answer that goes on.
func (a *authorization) FlushError() error {
	a.release(true)
	if a.refused != nil {
		return a.refused
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack asks the plugins before the connection is no longer HTTP's.
func (a *authorization) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !a.passed && a.refused == nil {
		a.shown.ResponseStatusCode, a.shown.ResponseHeaders = http.StatusSwitchingProtocols, shownHeaders(a.Header())
		if a.refused = a.ask("AuthZPlugin.AuthZRes"); a.refused != nil {
			writeError(&response{ResponseWriter: a.ResponseWriter}, a.refused, version{})
		}
	}
	if a.refused != nil {
		return nil, nil, a.refused
	}
	a.passed = true
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

// Unwrap is for http.ResponseController.
func (a *authorization) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// finish sends an answer that was held back to its end.
func (a *authorization) finish() {
	if a == nil {
		return
	}
	a.release(true)
	a.end()
	if a.refused != nil && !errors.Is(a.refused, context.Canceled) {
		a.s.log.Info("an answer was not sent", "method", a.shown.RequestMethod, "uri", a.shown.RequestURI, "reason", a.refused)
	}
}
