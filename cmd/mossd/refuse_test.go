package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/pkg/sd"
)

func TestRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- refuse(ctx, []net.Listener{l}, "the reason") }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://moss/v1.44/containers/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatal(resp.Status, err)
		}
		var said struct{ Message string }
		if method != http.MethodHead && (json.Unmarshal(body, &said) != nil || said.Message != "the reason") {
			t.Errorf("%s: %s", method, body)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The first failures end the daemon at once, and a start that succeeds forgets them.
func TestFailuresAreCounted(t *testing.T) {
	r := refusal{run: t.TempDir(), log: slog.New(slog.DiscardHandler), files: new(sd.Inherited)}
	for want := 1; want <= quickTries+1; want++ {
		if got := r.count(); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	}
	if err := errors.Join(started(r.run), started(r.run)); err != nil {
		t.Fatal(err)
	}
	if got := r.count(); got != 1 {
		t.Errorf("after a start: %d", got)
	}
	if err := os.RemoveAll(r.run); err != nil { // cannot be written
		t.Fatal(err)
	}
	if got := r.count(); got < quickTries {
		t.Errorf("where nothing can be kept: %d", got)
	}
	why := errors.New("why")
	if err := r.answer(t.Context(), why); !errors.Is(err, why) { // there is no socket
		t.Error(err)
	}
}
