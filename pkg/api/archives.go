package api

import (
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// progress is an answer of JSON objects, one a line, that begins with the first of them.
type progress struct {
	w   *response
	enc *json.Encoder
}

// message is what docker's clients show: stream as it is, status as a line.
type message struct {
	Stream string        `json:"stream,omitempty"`
	Status string        `json:"status,omitempty"`
	ID     string        `json:"id,omitempty"`
	Detail *messageError `json:"errorDetail,omitempty"`
	Error  string        `json:"error,omitempty"` // the same, for clients before 1.48
}

type messageError struct {
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
}

// trailing is how much may follow the end of an archive, in bytes: padding.
const trailing = 16 << 20

func newProgress(w *response) *progress {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &progress{w: w, enc: enc}
}

func (p *progress) send(m message) {
	if !p.w.begun {
		p.w.Header().Set("Content-Type", "application/json")
		// The answer may begin while the request's body is still being read; such a
		// connection cannot be used for another request.
		if http.NewResponseController(p.w.ResponseWriter).EnableFullDuplex() == nil {
			p.w.Header().Set("Connection", "close")
		}
	}
	if p.enc.Encode(m) == nil { // the client may be gone; the work goes on until its context ends
		p.w.flush()
	}
}

// result ends the answer: an error becomes the status where nothing was sent, else the last line.
func (p *progress) result(err error) error {
	if err == nil || !p.w.begun {
		return err
	}
	p.send(message{Detail: &messageError{Code: statusOf(err), Message: err.Error()}, Error: err.Error()})
	return nil
}

func (s *Server) loadImages(w *response, r *request) error {
	if len(r.strs("platform")) > 0 && r.str("platform") != "" {
		return notYet("loading one platform of an archive (platform)", "leave out --platform")
	}
	quiet := r.flagOr("quiet", true)
	p := newProgress(w)
	images, err := s.o.Archives.Load(r.Context(), r.Body, moss.LoadOptions{}, func(n moss.Progress) {
		if !quiet {
			p.send(message{ID: n.ID, Status: n.Status})
		}
	})
	if err != nil {
		return p.result(err)
	}
	_, _ = io.CopyN(io.Discard, r.Body, trailing) // else the client could find its connection reset
	for _, img := range images {
		line := "Loaded image: " + familiar(img.Name) + "\n"
		if img.Name == "" {
			line = "Loaded image ID: " + string(img.ID) + "\n"
		}
		p.send(message{Stream: line})
	}
	return nil
}

func (s *Server) createImage(w *response, r *request) error {
	platform, err := parsePlatform(r.str("platform"))
	if err != nil {
		return err
	}
	if r.str("fromImage") != "" {
		return s.pullImage(w, r, platform)
	}
	src := r.str("fromSrc")
	if src != "-" {
		return notYet("importing from a URL (fromSrc)", "use: curl URL | docker import -")
	}
	name, err := tagName(r.str("repo"), r.str("tag"))
	if err != nil {
		return err
	}
	o := moss.ImportOptions{Reference: name, Message: r.str("message"), Changes: r.strs("changes")}
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	if platform != "" {
		parts := append(strings.Split(platform, "/"), "")
		o.OS, o.Architecture, o.Variant = parts[0], parts[1], parts[2]
	}
	p := newProgress(w)
	img, err := s.o.Archives.Import(r.Context(), r.Body, o)
	if err != nil {
		return p.result(err)
	}
	_, _ = io.CopyN(io.Discard, r.Body, trailing) // else the client could find its connection reset
	p.send(message{Status: string(img.ID)})
	return nil
}

// pullImage makes sure that an image is there; without a registry client that
// is all there is to do.
func (s *Server) pullImage(w *response, r *request, platform string) error {
	if host := "linux/" + runtime.GOARCH; platform != "" && platform != host && !strings.HasPrefix(platform, host+"/") {
		return notYet("images of other platforms ("+platform+")", "leave out --platform")
	}
	ref, err := pullReference(r.str("fromImage"), r.str("tag"))
	if err != nil {
		return err
	}
	// A body would be old clients' credentials; there is nobody to show them to.
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w.ResponseWriter, r.Body, maxJSON))
	p := newProgress(w)
	_, err = s.o.Transfers.Pull(r.Context(), moss.PullRequest{Ref: ref.String()}, func(n moss.Progress) {
		p.send(message{ID: n.ID, Status: n.Status})
	})
	return p.result(err)
}

func pullReference(name, tag string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(name, ":"))
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "%w", err)
	}
	if tag != "" {
		if dgst, derr := digest.Parse(tag); derr == nil {
			ref, err = reference.WithDigest(reference.TrimNamed(ref), dgst)
		} else {
			ref, err = reference.WithTag(reference.TrimNamed(ref), tag)
		}
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "%w", err)
		}
	}
	if reference.IsNameOnly(ref) {
		return nil, notYet("pulling every tag of a name", "name one, such as "+reference.FamiliarName(ref)+":latest")
	}
	return ref, nil
}
