package plugin

import (
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-plugins-helpers/authorization"
)

// authz allows what the files deny and deny-answer have no part of: a line of them
// is part of "METHOD URI BODY".
type authz struct{ base }

func newAuthz(b base) server { return authorization.NewHandler(authz{b}) }

func (a authz) AuthZReq(r authorization.Request) authorization.Response {
	a.called("AuthZReq", r.RequestMethod, r.RequestURI, fmt.Sprintf("body=%d", len(r.RequestBody)))
	return a.judge("deny", r, r.RequestBody)
}

func (a authz) AuthZRes(r authorization.Request) authorization.Response {
	a.called("AuthZRes", r.RequestMethod, r.RequestURI, fmt.Sprintf("status=%d body=%d", r.ResponseStatusCode, len(r.ResponseBody)))
	return a.judge("deny-answer", r, r.ResponseBody)
}

func (a authz) judge(file string, r authorization.Request, body []byte) authorization.Response {
	what := r.RequestMethod + " " + r.RequestURI + " " + string(body)
	text, _ := os.ReadFile(a.path(file)) // none denies nothing
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && strings.Contains(what, line) {
			return authorization.Response{Msg: "not " + line}
		}
	}
	return authorization.Response{Allow: true}
}
