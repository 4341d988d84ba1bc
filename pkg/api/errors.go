package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/common"

	"github.com/moss-containers/moss/pkg/moss"
)

// statuses is the one table from an error's class to the answer's status.
var statuses = map[moss.Class]int{
	moss.Internal:       http.StatusInternalServerError,
	moss.Invalid:        http.StatusBadRequest,
	moss.NotFound:       http.StatusNotFound,
	moss.Conflict:       http.StatusConflict,
	moss.NotModified:    http.StatusNotModified,
	moss.NotImplemented: http.StatusNotImplemented,
	moss.Forbidden:      http.StatusForbidden,
	moss.Unavailable:    http.StatusServiceUnavailable,
	moss.TooLarge:       http.StatusRequestEntityTooLarge,
	moss.Unauthorized:   http.StatusUnauthorized,
}

func statusOf(err error) int {
	// A body over the limit shows wherever it is read.
	if e := (*http.MaxBytesError)(nil); errors.As(err, &e) {
		return http.StatusRequestEntityTooLarge
	}
	if status, ok := statuses[moss.ClassOf(err)]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// writeError answers with an error, in plain text to clients so old that they
// would print the JSON.
func writeError(w *response, err error, v version) {
	status := statusOf(err)
	if status == http.StatusNotModified {
		w.WriteHeader(status) // has no body
		return
	}
	if v != (version{}) && v.before(oldest) {
		http.Error(w, err.Error(), status)
		return
	}
	_ = writeJSON(w, status, common.ErrorResponse{Message: err.Error()})
}

// ErrorBody is the body of an answer that says why nothing else is had: for
// those who answer before the API can.
func ErrorBody(why string) []byte {
	b, err := json.Marshal(common.ErrorResponse{Message: why})
	if err != nil {
		panic(err) // a text can be encoded, whatever it is
	}
	return append(b, '\n')
}

// WriteUnavailable answers, in one piece, on a connection that net/http does not
// serve, or not any more. more are header lines with their ends.
func WriteUnavailable(w io.Writer, why, more string) error {
	body := ErrorBody(why)
	_, err := fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n%s",
		http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable), len(body), more, body)
	return err
}

// writeJSON answers with v as JSON. It returns what writing gives: the client has gone.
func writeJSON(w *response, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return encode(w, v)
}

func encode(w *response, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// noContent answers 204.
func noContent(w *response) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
