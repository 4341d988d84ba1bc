package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/moss-containers/moss/pkg/api"
	"github.com/moss-containers/moss/pkg/sd"
)

// What hinders a start often passes at once, and the manager's next try goes
// well. What hinders several in a row is told to whoever asks, and tried again
// after a while only.
const (
	quickTries = 3
	refuseFor  = 10 * time.Second
)

// refusal is a daemon that could not start.
type refusal struct {
	run, prefix string // run-time directory, and what the units' names begin with
	files       *sd.Inherited
	manager     *sd.Notifier
	log         *slog.Logger
}

// failures is the file that counts the failed starts in a row.
func failures(run string) string { return filepath.Join(run, "failures") }

// started forgets them.
func started(run string) error {
	if err := os.Remove(failures(run)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// answer returns err. After several failures in a row it first serves the
// sockets for a while, saying to each request why nothing else can be had.
func (r refusal) answer(ctx context.Context, why error) error {
	if r.files == nil || ctx.Err() != nil {
		return why
	}
	sockets := r.files.Listeners(r.prefix + ".socket")
	if len(sockets) == 0 || r.count() < quickTries {
		return why
	}
	text := fmt.Sprintf("the engine cannot start: %v (it tries again every %s%s)", why, refuseFor, r.atOnce())
	r.log.Error("requests are refused", "for", refuseFor, "error", why)
	if r.manager != nil {
		if err := r.manager.Status("refusing requests: " + why.Error()); err != nil {
			return errors.Join(why, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, refuseFor)
	defer cancel()
	return errors.Join(why, refuse(ctx, sockets, text))
}

// atOnce is how not to wait for the next try.
func (r refusal) atOnce() string {
	if underService { // which has no such command
		return ""
	}
	return fmt.Sprintf("; at once: systemctl --user restart %s.service", r.prefix)
}

// count is how many starts have failed in a row, this one included.
func (r refusal) count() int {
	b, err := os.ReadFile(failures(r.run))
	n := 0
	if err == nil {
		n, _ = strconv.Atoi(strings.TrimSpace(string(b))) // what is no number begins anew
	}
	n++
	if err := os.WriteFile(failures(r.run), []byte(strconv.Itoa(n)), 0o600); err != nil {
		return quickTries // on a full disk too somebody must be told
	}
	return n
}

// refuse gives every request this answer until ctx ends.
func refuse(ctx context.Context, sockets []net.Listener, text string) error {
	body := api.ErrorBody(text)
	server := &http.Server{ReadHeaderTimeout: refuseFor, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(body) // the client may be gone
	})}
	var tasks errgroup.Group
	for _, l := range sockets {
		tasks.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		_ = server.Close() // who has not asked by now asks again
	}
	return tasks.Wait()
}

// refuseSettings does so for a daemon whose settings cannot be used.
func refuseSettings(ctx context.Context, run, prefix string, why error) error {
	manager, err := sd.NewNotifier()
	if err != nil {
		return errors.Join(why, err)
	}
	files, err := sd.Inherit()
	if err != nil {
		return errors.Join(why, err)
	}
	return refusal{run: run, prefix: prefix, files: files, manager: manager, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}.answer(ctx, why)
}
