package main

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Where files run out, what takes some for long is refused first, then connections, then the store.
func TestDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	d := &descriptors{log: slog.New(slog.DiscardHandler)}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }() // as it was
	for _, c := range []struct {
		left                     int
		start, connection, store bool
	}{{200, true, true, true}, {100, false, true, true}, {50, false, false, true}, {20, false, false, false}} {
		low := was
		low.Cur = uint64(d.used() + c.left)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string][2]bool{
			"start": {d.forStart() == nil, c.start}, "connection": {d.forConnection() == nil, c.connection}, "store": {d.forStore() == nil, c.store},
		} {
			if got[0] != got[1] {
				t.Errorf("with %d left, a %s may be begun: %v", c.left, what, got[0])
			}
		}
	}
	if err := d.forStart(); moss.ClassOf(err) != moss.Unavailable {
		t.Error(err)
	}
}

// A connection for which there is no room gets an answer, unless idle ones can make room.
func TestGate(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := &descriptors{log: slog.New(slog.DiscardHandler)}
	var (
		mu   sync.Mutex
		idle []*os.File
	)
	g := gate{l, d, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range idle {
			_ = f.Close() // only opened
		}
	}}
	accepted := make(chan error, 1)
	go func() {
		for {
			c, err := g.Accept()
			if err == nil {
				err = c.Close()
			}
			accepted <- err
			if err != nil {
				return
			}
		}
	}()
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	low := was
	low.Cur = uint64(d.used() + 50)
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }() // as it was
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	c := dial()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close(), c.Close()); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "files open") {
		t.Errorf("%s %s, %v", resp.Status, body, err)
	}
	if len(accepted) != 0 {
		t.Error("it was served")
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		idle = append(idle, f)
		mu.Unlock()
	}
	low.Cur = uint64(d.used() + 54)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	c = dial()
	defer c.Close()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
