package holder

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/lowlevelmsgutil"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
)

// A child that once had no answer is asked again, and one that has none is not
// waited for.
func TestSocketPoolAsksAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := make(chan string, 1) // "" for none
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			var req msg.Request
			_, _ = lowlevelmsgutil.UnmarshalFromReader(c, &req) // who asks may have given up
			if a := <-answers; a != "" {
				_, _ = c.Write([]byte(a))
				c.Close()
			} else {
				defer c.Close()
			}
		}
	}()
	var log strings.Builder
	p := newSocketPool(path, slog.New(slog.NewTextHandler(&log, nil)))
	p.source.pause = 0
	p.patience = 50 * time.Millisecond
	answers <- ""
	if _, err := p.ask(msg.Request{Type: requestSource}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of a child without an answer: %v", err)
	}
	p.patience = time.Minute
	answers <- "?"
	if p.source.ok() {
		t.Error("a wrong answer is taken for a good one")
	}
	p.source.pause = time.Hour
	if p.source.ok() { // no answer is there to be had
		t.Error("asked at once again")
	}
	p.source.pause = 0
	answers <- okAnswer
	var all sync.WaitGroup
	for range 20 { // one of them asks
		all.Go(func() {
			if !p.source.ok() {
				t.Error("the failure is remembered for ever")
			}
		})
	}
	all.Wait()
	if strings.Count(log.String(), "for now") != 1 || strings.Count(log.String(), "again") != 1 {
		t.Errorf("logged: %s", log.String())
	}
}
