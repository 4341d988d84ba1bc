package api

import (
	"fmt"
	"math"
	"net/http"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// createExecBody is the body of an exec's creation. Older clients say
// here too that they will detach; it is for the start to do so.
type createExecBody struct {
	container.ExecCreateRequest
	Detach bool
}

func (s *Server) createExec(w *response, r *request) error {
	var in createExecBody
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	if len(in.Cmd) == 0 {
		return moss.Errorf(moss.Invalid, "No exec command specified")
	}
	if _, err := parseDetachKeys(in.DetachKeys); err != nil {
		return err
	}
	size, err := consoleSize(in.ConsoleSize)
	if err != nil {
		return err
	}
	if err := validEnv(in.Env); err != nil {
		return err
	}
	id, err := s.o.Execs.Create(r.Context(), r.containerRef(), moss.ExecConfig{
		Cmd: in.Cmd, Env: in.Env, User: in.User, WorkingDir: in.WorkingDir,
		TTY: in.Tty, Privileged: in.Privileged,
		AttachStdin: in.AttachStdin, AttachStdout: in.AttachStdout, AttachStderr: in.AttachStderr,
		DetachKeys: in.DetachKeys, ConsoleSize: size,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, common.IDResponse{ID: string(id)})
}

func consoleSize(in *[2]uint) (moss.TermSize, error) {
	if in == nil {
		return moss.TermSize{}, nil
	}
	if in[0] > math.MaxUint16 || in[1] > math.MaxUint16 {
		return moss.TermSize{}, moss.Errorf(moss.Invalid, "invalid ConsoleSize %d x %d: each is at most %d", in[0], in[1], math.MaxUint16)
	}
	return moss.TermSize{Rows: uint16(in[0]), Cols: uint16(in[1])}, nil
}

func (s *Server) startExec(w *response, r *request) error {
	var in container.ExecStartRequest
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	size, err := consoleSize(in.ConsoleSize)
	if err != nil {
		return err
	}
	e, err := s.o.Execs.Startable(r.name)
	if err != nil {
		return err
	}
	if e.ExitCode != nil || e.Started {
		return moss.Errorf(moss.Conflict, "Error: Exec command %s has already run or is running", e.ID)
	}
	if !e.Config.TTY {
		size = moss.TermSize{}
	} else if size == (moss.TermSize{}) {
		size = e.Config.ConsoleSize
	}
	if in.Detach {
		if err := s.o.Execs.Start(r.Context(), string(e.ID), true, size, moss.AttachIO{}, func() {}); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return s.attachExec(w, r, e, in.Tty, size)
}

// attachExec starts an exec with the client at its streams. A start that fails
// is told in the stream: docker's clients drop the body of any other answer.
func (s *Server) attachExec(w *response, r *request, e moss.Exec, tty bool, size moss.TermSize) error {
	keys, err := parseDetachKeys(e.Config.DetachKeys)
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(hijackContext(r))
	defer cancel()
	h := s.newHijack(w, r, tty, cancel)
	defer h.done()
	a := h.streams(tty, e.Config.AttachStdin, e.Config.AttachStdout, e.Config.AttachStderr)
	if e.Config.TTY && e.Config.AttachStdin {
		a.DetachKeys = keys
	}
	err = s.o.Execs.Start(ctx, string(e.ID), false, size, a, h.attached)
	if err != nil && !left(err) {
		if herr := h.begin(); herr != nil {
			return herr
		}
		out := h.streams(tty, false, true, false).Stdout
		_, _ = fmt.Fprintf(out, "%v\r\n", err) // the client may be gone
		return nil
	}
	h.tell(s.why(err), tty, nil)
	return h.result(err)
}

func (s *Server) resizeExec(_ *response, r *request) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	return s.o.Execs.Resize(r.Context(), r.name, size)
}

func (s *Server) inspectExec(w *response, r *request) error {
	e, err := s.o.Execs.Get(r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeExec(e))
}

func encodeExec(e moss.Exec) container.ExecInspectResponse {
	p := &container.ExecProcessConfig{Tty: e.Config.TTY, User: e.Config.User, Privileged: &e.Config.Privileged, Arguments: []string{}}
	if len(e.Config.Cmd) > 0 {
		p.Entrypoint = e.Config.Cmd[0]
		p.Arguments = append(p.Arguments, e.Config.Cmd[1:]...)
	}
	return container.ExecInspectResponse{
		ID: string(e.ID), Running: e.Running, ExitCode: e.ExitCode, ProcessConfig: p,
		OpenStdin: e.Config.AttachStdin, OpenStdout: e.Config.AttachStdout, OpenStderr: e.Config.AttachStderr,
		CanRemove: e.ExitCode != nil, ContainerID: string(e.Container), Pid: e.PID,
		DetachKeys: []byte(e.Config.DetachKeys),
	}
}
