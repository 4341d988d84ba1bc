package api

import (
	"net/http"

	"github.com/moss-containers/moss/pkg/moss"
)

// debug lets the owner look inside. What is there is no part of Docker's API.
func (s *Server) debug(w *response, r *request) error {
	if s.o.Debug == nil {
		return moss.Errorf(moss.NotFound, "page not found")
	}
	if _, unix := r.Context().Value(peerKey{}).(peer); !unix {
		return moss.Errorf(moss.Forbidden, "/debug is answered at the engine's unix socket only")
	}
	s.o.Debug.ServeHTTP(w, r.Request)
	return nil
}

// reloads says whether the owner asks that the configuration is read anew. No
// plugin is asked about that: it is how one is taken out that lets nobody in, and
// SIGHUP does the same.
func reloads(r *http.Request) bool {
	_, unix := r.Context().Value(peerKey{}).(peer)
	return unix && r.Method == http.MethodPost && r.URL.Path == "/debug/reload"
}
