// Command moss-hello is the program of the image moss/hello, which comes with
// moss: a web server of one page that tells where it runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const page = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>moss</title></head>
<body style="font-family:sans-serif;max-width:34em;margin:4em auto">
<h1>It runs in moss</h1>
<p>This page comes from a container without a root: the image <code>moss/hello</code>, in your own <code>systemd --user</code>.</p>
<table>
<tr><td>host name</td><td>%s</td></tr>
<tr><td>you are</td><td>%s</td></tr>
<tr><td>time</td><td>%s</td></tr>
</table>
</body></html>
`

func main() {
	addr := flag.String("addr", ":80", "`address` to listen on")
	flag.Parse()
	end := make(chan os.Signal, 1)
	// Process 1 of a pid namespace gets no signal that it has no handler for.
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-end; os.Exit(0) }()
	listeners, err := passed()
	if err == nil && len(listeners) == 0 {
		var l net.Listener
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", *addr)
		listeners = []net.Listener{l}
	}
	if err == nil {
		ended := make(chan error)
		for _, l := range listeners {
			fmt.Printf("moss-hello listens on %s\n", l.Addr())
			go func() { ended <- serve(l) }()
		}
		err = <-ended
	}
	fmt.Fprintf(os.Stderr, "moss-hello: cannot serve on %q: %v\n", *addr, err)
	os.Exit(1)
}

// passed are the sockets that it was activated with, see sd_listen_fds(3): in
// moss, those of a container made with --activate-listen-fds.
func passed() (out []net.Listener, err error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		fmt.Printf("moss-hello was passed %d sockets named %s\n", len(byName[name]), name)
		out = append(out, byName[name]...)
	}
	return out, nil
}

func serve(l net.Listener) error {
	s := &http.Server{Handler: handler(time.Now), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(now func() time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/":
			http.NotFound(w, r)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page can only be read", http.StatusMethodNotAllowed)
			return
		}
		name, err := os.Hostname()
		if err != nil {
			name = "unknown"
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodHead {
			return
		}
		// A client that went away is no error of ours.
		_, _ = io.WriteString(w, fmt.Sprintf(page, html.EscapeString(name), html.EscapeString(r.RemoteAddr), now().UTC().Format(time.RFC3339)))
	})
}
