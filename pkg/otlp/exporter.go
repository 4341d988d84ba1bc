package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"
)

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
	// firstPause is the time before what failed is tried again, where the collector
	// names none; it doubles to longestPause.
	firstPause   = 500 * time.Millisecond
	longestPause = 5 * time.Second
	// idleTime is how long a connection is kept: less than collectors do, more than
	// the SDK takes for a batch.
	idleTime = 15 * time.Second
)

// Exporter sends spans; it is a SpanExporter of the SDK, which calls it for one
// batch after the other.
type Exporter struct {
	c      Config
	client *http.Client
	pause  func(ctx context.Context, d time.Duration) error
}

var _ sdk.SpanExporter = (*Exporter)(nil)

// New makes an exporter; nothing is sent yet.
func New(c Config) *Exporter {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: c.TLS, MaxIdleConns: 1, IdleConnTimeout: idleTime,
		DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
	}
	return &Exporter{c: c, pause: pause, client: &http.Client{
		Transport: transport,
		// Spans sent elsewhere would take the headers along, which have credentials.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// PartialError says that the collector has taken a batch, but not all of it, or
// has something to say about it.
type PartialError struct {
	Rejected int64 // spans
	Message  string
}

func (e *PartialError) Error() string {
	if e.Rejected == 0 {
		return "the collector says: " + e.Message
	}
	return fmt.Sprintf("the collector refused %d spans: %s", e.Rejected, e.Message)
}

// ExportSpans sends a batch. What may pass, a collector that is away or has too
// much to do, is tried again until the time is over.
func (x *Exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := x.body(spans)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.c.Timeout)
	defer cancel()
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		err := x.send(ctx, body)
		again, ok := errors.AsType[*againError](err)
		if !ok {
			return err
		}
		next := again.after
		if next == 0 {
			next = wait/2 + rand.N(wait) //nolint:gosec // only so that not all come back at once
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= next {
			return again.err // the last word is the reason, not that the time is over
		}
		if x.pause(ctx, next) != nil {
			return again.err
		}
	}
}

// Shutdown is called after the last batch.
func (x *Exporter) Shutdown(context.Context) error {
	x.client.CloseIdleConnections()
	return nil
}

// MarshalLog is what the SDK logs of an exporter: not its headers.
func (x *Exporter) MarshalLog() any { return "OTLP to " + x.c.Endpoint.Redacted() }

func (x *Exporter) body(spans []sdk.ReadOnlySpan) (b []byte, err error) {
	message := encode(spans)
	if x.c.JSON {
		b, err = encodeJSON(message)
	} else {
		b, err = proto.Marshal(message)
	}
	if err != nil || !x.c.Gzip {
		return b, err
	}
	var packed bytes.Buffer
	// Without a state between writes: the usual ones take a megabyte.
	z, err := gzip.NewWriterLevel(&packed, gzip.StatelessCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	err = z.Close()
	return packed.Bytes(), err
}

// againError is one after which the same may succeed later.
type againError struct {
	err   error
	after time.Duration // as the collector has it; 0 where it says nothing
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

func (x *Exporter) send(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.c.Endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if user := x.c.UserAgent; user != "" {
		r.Header.Set("User-Agent", user)
	}
	for name, values := range x.c.Headers {
		r.Header[name] = values
		if name == "Host" { // net/http sends only this one
			r.Host = values[0]
		}
	}
	r.Header.Set("Content-Type", protobufType)
	if x.c.JSON {
		r.Header.Set("Content-Type", jsonType)
	}
	if x.c.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	res, err := x.client.Do(r)
	if err != nil {
		return unsent(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode/100 == 2 {
		if err != nil {
			return nil // it has them: sent again they would be there twice
		}
		return partial(res.Header.Get("Content-Type"), text)
	}
	err = refused(res, text)
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &againError{err, retryAfter(res.Header.Get("Retry-After"), time.Now())}
	}
	return err
}

// unsent tells why there was no answer. The same is sent again, although it may
// have arrived: who keeps spans knows them by their ids.
func unsent(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("the collector has not answered in time")
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its text is the address once more
	}
	_, wrong := errors.AsType[*tls.CertificateVerificationError](err)
	err = fmt.Errorf("cannot reach the collector: %w", err)
	if ctx.Err() != nil || wrong {
		return err
	}
	return &againError{err: err}
}

// retryAfter reads the header: seconds, or a time.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
