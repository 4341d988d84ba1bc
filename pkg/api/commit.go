package api

import (
	"net/http"
	"reflect"
	"slices"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// commitBody is the configuration that an image is to have; its members are
// those of a container's.
type commitBody struct {
	container.Config
	Cmd        words // was a string once
	Entrypoint words
}

func (s *Server) commit(w *response, r *request) error {
	if r.str("container") == "" {
		return invalid("no container is named to make an image of: use the parameter container")
	}
	name, err := tagName(r.str("repo"), r.str("tag"))
	if err != nil {
		return err
	}
	if name == "" && r.str("tag") != "" {
		return invalid("a tag is given without a repo")
	}
	config, err := commitConfig(w, r)
	if err != nil {
		return err
	}
	id, err := s.o.Files.Commit(r.Context(), moss.CommitRequest{
		Container: r.str("container"), Reference: name, Author: r.str("author"), Message: r.str("comment"),
		Changes: r.strs("changes"), Config: config, Pause: r.flagOr("pause", true),
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, container.CommitResponse{ID: string(id)})
}

// commitConfig reads the body; nil where it says nothing.
func commitConfig(w *response, r *request) (*moss.ContainerConfig, error) {
	var in commitBody
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return nil, err
	}
	if err := first(
		func() error { return validEnv(in.Env) },
		func() error {
			return refuseIf(in.NetworkDisabled, "NetworkDisabled in an image", "create containers of it with --network none")
		},
		func() error { return refuseIf(in.ArgsEscaped, "ArgsEscaped", "it is for Windows: leave it out") },
		func() error {
			if in.StopSignal == "" {
				return nil
			}
			_, err := parseSignal(in.StopSignal)
			return err
		},
	); err != nil {
		return nil, err
	}
	out := moss.ContainerConfig{
		Hostname: in.Hostname, Domainname: in.Domainname, User: in.User,
		AttachStdin: in.AttachStdin, AttachStdout: in.AttachStdout, AttachStderr: in.AttachStderr,
		TTY: in.Tty, OpenStdin: in.OpenStdin, StdinOnce: in.StdinOnce,
		Env: in.Env, Cmd: in.Cmd, Entrypoint: in.Entrypoint, Image: in.Image, WorkingDir: in.WorkingDir,
		Labels: in.Labels, StopSignal: in.StopSignal, StopTimeout: in.StopTimeout, OnBuild: in.OnBuild, Shell: in.Shell,
	}
	for p := range in.Config.Volumes {
		out.Volumes = append(out.Volumes, p)
	}
	slices.Sort(out.Volumes)
	for _, p := range sortedPorts(in.ExposedPorts) {
		port, err := portOf(p)
		if err != nil {
			return nil, err
		}
		out.ExposedPorts = append(out.ExposedPorts, port)
	}
	if h := in.Healthcheck; h != nil {
		out.Healthcheck = &moss.Healthcheck{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	if reflect.ValueOf(out).IsZero() {
		return nil, nil //nolint:nilnil // nil is the answer: nothing is asked for
	}
	return &out, nil
}
