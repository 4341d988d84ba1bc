package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lingering are containers that take as long to end as somebody says.
type lingering struct {
	fakeContainers
	asked chan struct{}
	end   chan struct{}
	heed  bool // the request's end
}

func (l lingering) Stop(ctx context.Context, _ string, _ StopOptions) error {
	l.asked <- struct{}{}
	if !l.heed {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-l.end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A request that does not end in time with the server is answered, whatever its
// handler does; one that does has its own answer.
func TestUnderWayAtTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		heed  bool
		after time.Duration // the container ends, from the server's end on
		code  int
	}{
		"a handler that goes on":    {false, time.Hour, http.StatusServiceUnavailable},
		"a handler that gives up":   {true, time.Hour, http.StatusServiceUnavailable},
		"a container that ends yet": {false, 100 * time.Millisecond, http.StatusNoContent},
		"in the last moment":        {false, 1900 * time.Millisecond, 0}, // either
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := newFake()
			slow := lingering{fakeContainers{w}, make(chan struct{}, 2), make(chan struct{}), c.heed}
			s.o.Containers = slow
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(ctx, l, 2*time.Second) }()
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
			}}}
			type answer struct {
				code int
				body string
				err  error
			}
			answers := make(chan answer, 2)
			for _, path := range []string{"/containers/x/stop", "/v1.47/containers/x/stop?t=100"} {
				go func() {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://moss"+path, nil)
					if err != nil {
						answers <- answer{err: err}
						return
					}
					resp, err := client.Do(req)
					if err != nil {
						answers <- answer{err: err}
						return
					}
					body, err := io.ReadAll(resp.Body)
					answers <- answer{resp.StatusCode, string(body), errors.Join(err, resp.Body.Close())}
				}()
				<-slow.asked
			}
			cancel()
			if c.after < time.Hour {
				time.AfterFunc(c.after, func() { close(slow.end) })
			}
			for range 2 {
				a := <-answers
				if a.err != nil || a.code != c.code && c.code != 0 {
					t.Errorf("%d %q, %v", a.code, a.body, a.err)
				}
				if a.code == http.StatusServiceUnavailable && !strings.Contains(a.body, errClosing.Error()) {
					t.Errorf("the client is told %q", a.body)
				}
			}
			if c.after == time.Hour {
				close(slow.end)
			}
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}
