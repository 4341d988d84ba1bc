// Package plugin gives tests plugins of docker's protocol v1, made with docker's
// own helpers: volume drivers, authorization plugins and log drivers, each a
// process of its own, the test's binary once more. What a plugin was called for,
// and what it is told to do wrong, are files in its directory, so that tests see
// and change it while it runs, and a plugin that is started again goes on.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
)

// Env makes a test's binary a plugin: kind, socket and directory, with a space between.
const Env = "MOSS_TEST_PLUGIN"

// Main serves as the plugin that the environment asks for, if it does. It is to be
// called first in TestMain.
func Main() {
	words := strings.Fields(os.Getenv(Env))
	if len(words) != 3 {
		return
	}
	if err := serve(words[0], words[1], words[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plugin:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type server interface{ Serve(l net.Listener) error }

func serve(kind, socket, dir string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	b := base{dir}
	var s server
	switch kind {
	case "volume":
		s = newVolumes(b)
	case "authz":
		s = newAuthz(b)
	case "log":
		s = newLogs(b)
	case "liar":
		s = newLiar()
	default:
		return fmt.Errorf("%q is no kind of plugin", kind)
	}
	return s.Serve(l)
}

// base is a plugin's directory: the file calls has a line for each call.
type base struct{ dir string }

func (b base) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}

// called notes a call. While the file hang names the call, or "all", it does not
// return; where die does, nothing returns any more.
func (b base) called(call string, more ...string) {
	f, err := os.OpenFile(b.path("calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = fmt.Fprintln(f, strings.Join(append([]string{call}, more...), " "))
		_ = f.Close()
	}
	if b.asked("die", call) {
		os.Exit(3)
	}
	for b.asked("hang", call) {
		<-time.After(20 * time.Millisecond)
	}
}

// asked says whether a file has the word, or "all".
func (b base) asked(file, word string) bool {
	text, err := os.ReadFile(b.path(file))
	if err != nil {
		return false
	}
	for w := range strings.FieldsSeq(string(text)) {
		if w == word || w == "all" {
			return true
		}
	}
	return false
}

// newLiar says that it is a volume driver, and answers without sense.
func newLiar() server {
	h := sdk.NewHandler(`{"Implements": ["VolumeDriver"]}`)
	long := []byte(strings.Repeat("0123456789", 1<<20))
	h.HandleFunc("/VolumeDriver.List", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Err": "`))
		_, _ = w.Write(long)
		_, _ = w.Write([]byte(`"}`))
	})
	h.HandleFunc("/VolumeDriver.Get", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>"))
	})
	h.HandleFunc("/VolumeDriver.Create", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Err": 7}`))
	})
	return h
}
