package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) createContainer(w *response, r *request) error {
	body, err := readJSON(w, r.Request)
	if err != nil {
		return err
	}
	req, warnings, err := s.decodeCreate(body, r.version, r.str("name"), r.str("platform"))
	if err != nil {
		return err
	}
	id, more, err := s.o.Containers.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.CreateResponse{ID: string(id), Warnings: append(warnings, more...)})
}

func (s *Server) startContainer(w *response, r *request) error {
	// docker took a HostConfig here long ago; seven bytes are "null" and an empty object.
	if r.ContentLength > 7 || r.ContentLength == -1 {
		return moss.Errorf(moss.Invalid, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if r.str("checkpoint") != "" {
		return moss.Errorf(moss.NotImplemented, "moss does not start from checkpoints yet: start without --checkpoint")
	}
	if err := s.o.Containers.Start(r.Context(), r.containerRef()); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) stopContainer(w *response, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.Stop(r.Context(), r.containerRef(), o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) restartContainer(w *response, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.Restart(r.Context(), r.containerRef(), o); err != nil {
		return err
	}
	return noContent(w)
}

func stopOptions(r *request) (StopOptions, error) {
	var o StopOptions
	if sig := r.str("signal"); sig != "" {
		if _, err := parseSignal(sig); err != nil {
			return o, err
		}
		o.Signal = sig
	}
	if r.str("t") != "" {
		n, err := r.integer("t", 0)
		if err != nil {
			return o, err
		}
		d := time.Duration(n) * time.Second
		o.Timeout = &d
	}
	return o, nil
}

func (s *Server) killContainer(w *response, r *request) error {
	name := r.str("signal")
	if name == "" {
		name = "KILL"
	}
	sig, err := parseSignal(name)
	if err != nil {
		return err
	}
	if err := s.o.Signals.Kill(r.Context(), r.containerRef(), sig); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) resizeContainer(_ *response, r *request) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	return s.o.Signals.Resize(r.Context(), r.containerRef(), size)
}

func (s *Server) removeContainer(w *response, r *request) error {
	if r.flag("link") {
		if err := s.o.Links.Unlink(r.Context(), r.containerRef()); err != nil {
			return err
		}
		return noContent(w)
	}
	remove := s.o.Containers.Remove
	if r.flag("v") {
		remove = s.o.Volumes.RemoveContainer
	}
	if err := remove(r.Context(), r.containerRef(), r.flag("force")); err != nil {
		return err
	}
	return noContent(w)
}

// waitFailed is told for the exit code of a container whose end was not awaited:
// some clients look at nothing else.
const waitFailed = 125

func (s *Server) waitContainer(w *response, r *request) error {
	cond := moss.WaitNotRunning
	early := !r.version.before(v1(30)) // the header tells the client that it may start the container
	if c := r.str("condition"); c != "" && early {
		cond = moss.WaitCondition(c)
		switch cond {
		case moss.WaitNotRunning, moss.WaitNextExit, moss.WaitRemoved:
		default:
			return moss.Errorf(moss.Invalid, "invalid condition: %q", c)
		}
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	code, message, err := s.o.Views.Wait(ctx, r.containerRef(), cond, func() {
		w.Header().Set("Content-Type", "application/json")
		if early {
			w.flush()
		}
	})
	err = s.why(err)
	if ctx.Err() != nil && !errors.Is(err, errClosing) {
		return ctx.Err()
	}
	// Docker's wait names no condition and prints the code whatever there is beside it: better none.
	if err != nil && (!w.begun || r.str("condition") == "") {
		return err
	}
	if err != nil {
		code = waitFailed
	}
	res := container.WaitResponse{StatusCode: int64(code)}
	if err != nil {
		message = err.Error()
	}
	if message != "" {
		res.Error = &container.WaitExitError{Message: message}
	}
	if !w.begun {
		return writeJSON(w, http.StatusOK, res)
	}
	return encode(w, res)
}
