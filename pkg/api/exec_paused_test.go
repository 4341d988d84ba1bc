package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// An exec that was made before a pause is refused with a status, before the
// connection is a stream's.
func TestExecOfAPausedContainer(t *testing.T) {
	s, w := newFake()
	w.execs["e"] = &fakeExec{moss.Exec{ID: "e", Config: moss.ExecConfig{Cmd: []string{"true"}, AttachStdout: true}}}
	w.paused = true
	for _, body := range []string{`{}`, `{"Detach":true}`} {
		got := do(t, s, http.MethodPost, "/exec/e/start", "application/json", body)
		if got.Code != http.StatusConflict || !strings.Contains(got.Body.String(), "Container c is paused, unpause the container before exec") {
			t.Errorf("%s: %d %s", body, got.Code, got.Body)
		}
	}
}
