package main

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.26.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// requests is what the API calls for each request; nil for no traces.
func (t *tracing) requests() func(*http.Request, string) (context.Context, func(int, error)) {
	if t == nil {
		return nil
	}
	return t.request
}

// request begins a request's span, below the one that the client names. Names and
// attributes are those of the semantic conventions for HTTP servers; the query is
// left out, for it has what users type.
func (t *tracing) request(r *http.Request, route string) (context.Context, func(status int, err error)) {
	ctx := r.Context()
	if t.parents {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	method, name := r.Method, r.Method
	var attrs []attribute.KeyValue
	if !knownMethod(method) {
		attrs = append(attrs, semconv.HTTPRequestMethodOriginal(method))
		method, name = "_OTHER", "HTTP"
	}
	attrs = append(attrs, semconv.HTTPRequestMethodKey.String(method), semconv.URLPath(r.URL.Path), semconv.URLScheme(scheme(r)))
	if route != "" {
		name += " " + route
		attrs = append(attrs, semconv.HTTPRoute(route))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, semconv.UserAgentOriginal(agent))
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(append(attrs, peer(r)...)...))
	return ctx, func(status int, err error) {
		kind, text := "", ""
		if status != 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		}
		switch { // what is the client's fault is no error of the server
		case status == 0:
			kind = "aborted"
		case status >= http.StatusInternalServerError:
			kind = strconv.Itoa(status)
		}
		if kind != "" {
			if err != nil {
				text = err.Error()
			}
			span.SetAttributes(semconv.ErrorTypeKey.String(kind))
			span.SetStatus(codes.Error, text)
		}
		span.End()
	}
}

func knownMethod(m string) bool {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions,
		http.MethodPatch, http.MethodConnect, http.MethodTrace:
		return true
	}
	return false
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// peer is who asks, and by which way.
func peer(r *http.Request) []attribute.KeyValue {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if at == nil || at.Network() == "unix" {
		return []attribute.KeyValue{semconv.NetworkTransportUnix}
	}
	attrs := []attribute.KeyValue{semconv.NetworkTransportTCP}
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		attrs = append(attrs, semconv.NetworkPeerAddress(host))
		if n, err := strconv.Atoi(port); err == nil {
			attrs = append(attrs, semconv.NetworkPeerPort(n))
		}
	}
	return attrs
}

// observedTransfers follows pulls and pushes, and the layers of pulls.
type observedTransfers struct {
	engine.ImageTransfers
	t *tracing
}

func (o observedTransfers) Pull(ctx context.Context, r moss.PullRequest, progress func(moss.Progress)) (_ []moss.PulledImage, err error) {
	ctx, end := o.t.child(ctx, "image.pull", "")
	trace.SpanFromContext(ctx).SetAttributes(semconv.ContainerImageName(r.Ref))
	l := pulledLayers{ctx: ctx, t: o.t, open: map[string]layerSpan{}}
	defer func() { l.close(err); end(err) }()
	return o.ImageTransfers.Pull(ctx, r, func(p moss.Progress) { l.told(p); progress(p) }) //nolint:contextcheck // it has it
}

func (o observedTransfers) Push(ctx context.Context, r moss.PushRequest, progress func(moss.Progress)) (_ []moss.PushedImage, err error) {
	ctx, end := o.t.child(ctx, "image.push", "")
	trace.SpanFromContext(ctx).SetAttributes(semconv.ContainerImageName(r.Ref))
	defer func() { end(err) }()
	return o.ImageTransfers.Push(ctx, r, progress)
}

// pulledLayers makes spans of what a pull tells its client.
type pulledLayers struct {
	ctx context.Context //nolint:containedctx // of the pull, whose span these are below
	t   *tracing

	mu   sync.Mutex
	open map[string]layerSpan
}

type layerSpan struct {
	span   trace.Span
	end    func(error)
	status string // told last
}

func (l *pulledLayers) told(p moss.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, open := l.open[p.ID]
	switch {
	case p.Status == "Pulling fs layer" && !open:
		ctx, end := l.t.child(l.ctx, "image.layer", "")
		s = layerSpan{span: trace.SpanFromContext(ctx), end: end}
		s.span.SetAttributes(attribute.String("moss.layer.digest", p.ID))
	case !open || p.Status == s.status:
		return
	case p.Status == "Pull complete" || p.Status == "Already exists": // the latter where another pull brought it meanwhile
		s.end(nil)
		delete(l.open, p.ID)
		return
	default:
		s.span.AddEvent(p.Status)
	}
	s.status = p.Status
	l.open[p.ID] = s
}

// close ends what a pull left open, which it does where it fails.
func (l *pulledLayers) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.open {
		s.end(err)
	}
}
