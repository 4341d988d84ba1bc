package api

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// updateBody has the members that clients send and newer types have lost.
type updateBody struct {
	container.UpdateConfig
	KernelMemory    int64
	KernelMemoryTCP int64
}

func (s *Server) updateContainer(w *response, r *request) error {
	var in updateBody
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	u, err := s.decodeUpdate(in, r.version)
	if err != nil {
		return err
	}
	warnings, err := s.o.Upkeep.Update(r.Context(), r.containerRef(), u)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, container.UpdateResponse{Warnings: warnings})
}

// decodeUpdate judges limits as those of a new container.
func (s *Server) decodeUpdate(in updateBody, v version) (u moss.ContainerUpdate, err error) {
	if len(in.Ulimits) > 0 {
		return u, notYet("ulimits of a container that is there", "create it with them")
	}
	if v.before(v1(40)) {
		in.PidsLimit = nilIf(in.PidsLimit, func(n int64) bool { return n <= 0 })
	}
	body := createBody{HostConfig: &hostBody{}}
	body.HostConfig.Resources = in.Resources
	body.HostConfig.KernelMemory, body.HostConfig.KernelMemoryTCP = in.KernelMemory, in.KernelMemoryTCP
	var req moss.CreateRequest
	d := createDecoder{s: s, in: &body, out: &req, version: v, update: true}
	if err := d.resources(); err != nil {
		return u, err
	}
	u.Resources, u.PidsLimit = req.Host.Resources, in.PidsLimit
	if p := in.RestartPolicy; p.Name != "" {
		u.RestartPolicy = &moss.RestartPolicy{Mode: moss.RestartMode(p.Name), MaxRetries: p.MaximumRetryCount}
	} else if p.MaximumRetryCount != 0 {
		return u, invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'")
	}
	return u, nil
}
