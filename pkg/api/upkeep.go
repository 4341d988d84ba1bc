package api

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) renameContainer(w *response, r *request) error {
	if err := s.o.Upkeep.Rename(r.Context(), r.containerRef(), r.str("name")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pauseContainer(w *response, r *request) error {
	if err := s.o.Upkeep.Pause(r.Context(), r.containerRef()); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) unpauseContainer(w *response, r *request) error {
	if err := s.o.Upkeep.Unpause(r.Context(), r.containerRef()); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pruneContainers(w *response, r *request) error {
	want, err := s.pruneFilter(r)
	if err != nil {
		return err
	}
	done, err := s.o.Upkeep.Prune(r.Context(), want)
	if err != nil {
		return err
	}
	var ids []string // null for none, as docker has it
	for _, id := range done.Removed {
		ids = append(ids, string(id))
	}
	return writeJSON(w, http.StatusOK, container.PruneReport{ContainersDeleted: ids, SpaceReclaimed: uint64(max(done.Reclaimed, 0))})
}

// pruneFilter reads the filters of a prune.
func (s *Server) pruneFilter(r *request) (moss.PruneFilter, error) {
	f, err := parseFilters(r.str("filters"), "label", "label!", "until")
	if err != nil {
		return moss.PruneFilter{}, err
	}
	want := moss.PruneFilter{Labels: f["label"], NotLabel: f["label!"]}
	until, err := f.one("until")
	if err == nil {
		want.Until, err = untilTime(until, s.now())
	}
	return want, err
}
