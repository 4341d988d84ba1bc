package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector keeps the spans that it is sent in a file, a line a span: the trace,
// the spans above it and itself, its attributes, and the status if it failed.
//
//	0102… POST /containers/{id}/start > unit.start {container.id=…}
type collector struct {
	file string

	mu    sync.Mutex
	spans []*traces.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var d traces.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, res := range d.GetResourceSpans() {
		for _, scope := range res.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	if err == nil {
		err = c.write()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (c *collector) write() error {
	byID := map[string]*traces.Span{}
	for _, s := range c.spans {
		byID[string(s.GetSpanId())] = s
	}
	var text strings.Builder
	for _, s := range c.spans {
		path := s.GetName()
		for at := s; len(at.GetParentSpanId()) > 0; {
			up := byID[string(at.GetParentSpanId())]
			if up == nil {
				path = hex.EncodeToString(at.GetParentSpanId()) + " > " + path
				break
			}
			at, path = up, up.GetName()+" > "+path
		}
		fmt.Fprintf(&text, "%x %s {%s}", s.GetTraceId(), path, words(s.GetAttributes()))
		if s.GetStatus().GetCode() == traces.Status_STATUS_CODE_ERROR {
			fmt.Fprintf(&text, " failed: %s", s.GetStatus().GetMessage())
		}
		text.WriteByte('\n')
	}
	temp := c.file + ".new"
	if err := os.WriteFile(temp, []byte(text.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, c.file)
}

func words(attrs []*common.KeyValue) string {
	var all []string
	for _, a := range attrs {
		v := a.GetValue().GetStringValue()
		if n, ok := a.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
			v = fmt.Sprint(n.IntValue)
		}
		all = append(all, a.GetKey()+"="+v)
	}
	return strings.Join(all, " ")
}

// collector FILE [VARIABLE=VALUE…]: the engine sends its spans to one that writes
// them to FILE, for the rest of the script; starts the engine anew.
func cmdCollector(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || neg {
		ts.Fatalf("usage: collector file [variable=value…]")
	}
	c := &collector{file: ts.MkAbs(args[0])}
	ts.Check(c.write())
	server := httptest.NewServer(c)
	ts.Defer(server.Close)
	vars := append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL}, args[1:]...)
	if withoutSystemd {
		ts.Defer(func() { ts.Check(suite.restartService()) })
		ts.Check(suite.restartService(vars...))
		return
	}
	text := "[Service]\n"
	for _, v := range vars {
		text += "Environment=" + v + "\n"
	}
	dir := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "systemd/user", prefix+".service.d")
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Defer(func() {
		ts.Check(os.RemoveAll(dir))
		reload(ts)
		restart(ts)
	})
	ts.Check(os.WriteFile(filepath.Join(dir, "traces.conf"), []byte(text), 0o600))
	reload(ts)
	restart(ts)
}

func reload(ts *testscript.TestScript) {
	_, err := suite.output("systemctl", "--user", "daemon-reload")
	ts.Check(err)
}
