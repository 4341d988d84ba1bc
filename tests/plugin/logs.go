package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/plugins/logdriver"
	"github.com/docker/go-plugins-helpers/sdk"
)

// logs keeps entries in logs/ID as they came, and as "SOURCE LINE" in logs/ID.txt.
// With a file read in its directory it says that it can read them.
type logs struct {
	base
	mu   sync.Mutex
	open map[string]bool // by FIFO
}

func newLogs(b base) server {
	l := &logs{base: b, open: make(map[string]bool)}
	h := sdk.NewHandler(`{"Implements": ["LogDriver"]}`)
	h.HandleFunc("/LogDriver.StartLogging", l.start)
	h.HandleFunc("/LogDriver.StopLogging", l.stop)
	h.HandleFunc("/LogDriver.Capabilities", l.capabilities)
	h.HandleFunc("/LogDriver.ReadLogs", l.read)
	return h
}

type logRequest struct {
	File string
	Info struct {
		Config          map[string]string
		ContainerID     string
		ContainerName   string
		ContainerLabels map[string]string
	}
	Config struct {
		Since  time.Time
		Tail   int
		Follow bool
	}
}

func respond(w http.ResponseWriter, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	sdk.EncodeResponse(w, map[string]string{"Err": text}, err != nil)
}

func (l *logs) start(w http.ResponseWriter, r *http.Request) {
	var in logRequest
	if sdk.DecodeRequest(w, r, &in) != nil {
		return
	}
	l.called("StartLogging", in.Info.ContainerID, in.Info.ContainerName, in.Info.Config["answer"])
	if why := in.Info.Config["fail"]; why != "" {
		respond(w, errors.New(why))
		return
	}
	f, err := os.OpenFile(in.File, os.O_RDONLY, 0)
	if err == nil {
		err = os.MkdirAll(l.path("logs"), 0o700)
	}
	if err == nil {
		l.mu.Lock()
		l.open[in.File] = true
		l.mu.Unlock()
		go l.receive(f, in.File, in.Info.ContainerID)
	}
	respond(w, err)
}

func (l *logs) receive(f *os.File, fifo, id string) {
	err := l.copy(f, id)
	if err != nil {
		l.called("broken", id, err.Error())
	}
	l.mu.Lock()
	delete(l.open, fifo)
	l.mu.Unlock()
	l.called("end", id)
}

func (l *logs) copy(f *os.File, id string) error {
	defer func() { _ = f.Close() }() // only read
	raw, err := os.OpenFile(l.path("logs", id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	text, err := os.OpenFile(l.path("logs", id+".txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = text.Close() }()
	dec, enc := logdriver.NewLogEntryDecoder(f), logdriver.NewLogEntryEncoder(raw)
	for {
		var e logdriver.LogEntry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for l.asked("hang", "receive") {
			<-time.After(20 * time.Millisecond)
		}
		if err := enc.Encode(&e); err != nil {
			return err
		}
		part := ""
		if m := e.PartialLogMetadata; m != nil {
			part = fmt.Sprintf(" part=%d last=%v", m.Ordinal, m.Last)
		}
		line := e.Line
		if len(line) > 100 {
			line = fmt.Appendf(nil, "%d bytes", len(line))
		}
		if _, err := fmt.Fprintf(text, "%s %s%s\n", e.Source, line, part); err != nil {
			return err
		}
	}
}

func (l *logs) stop(w http.ResponseWriter, r *http.Request) {
	var in logRequest
	if sdk.DecodeRequest(w, r, &in) != nil {
		return
	}
	l.called("StopLogging")
	respond(w, nil)
}

func (l *logs) capabilities(w http.ResponseWriter, _ *http.Request) {
	l.called("Capabilities")
	_, err := os.Stat(l.path("read"))
	_ = json.NewEncoder(w).Encode(map[string]any{"Cap": map[string]bool{"ReadLogs": err == nil}})
}

// read sends the entries, and with follow those that come until the FIFOs are at
// their end.
func (l *logs) read(w http.ResponseWriter, r *http.Request) {
	var in logRequest
	if sdk.DecodeRequest(w, r, &in) != nil {
		return
	}
	l.called("ReadLogs", in.Info.ContainerID, fmt.Sprintf("tail=%d follow=%v", in.Config.Tail, in.Config.Follow))
	f, err := os.Open(l.path("logs", in.Info.ContainerID))
	if err != nil {
		respond(w, err)
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/x-json-stream")
	for {
		l.mu.Lock()
		live := len(l.open) > 0
		l.mu.Unlock()
		if _, err := io.Copy(w, f); err != nil && !errors.Is(err, syscall.EPIPE) {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if !in.Config.Follow || !live {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}
