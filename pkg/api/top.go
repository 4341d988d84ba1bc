package api

import (
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// top answers as ps(1) does. Docker runs that program; here the engine knows the
// processes, and the common ways to ask ps for columns are understood.
func (s *Server) top(w *response, r *request) error {
	args := "-ef"
	if r.has("ps_args") && strings.TrimSpace(r.str("ps_args")) != "" {
		args = r.str("ps_args")
	}
	columns, err := psColumns(args)
	if err != nil {
		return err
	}
	list, err := s.o.Use.Processes(r.Context(), r.containerRef())
	if err != nil {
		return err
	}
	out := container.TopResponse{Titles: []string{}, Processes: [][]string{}}
	for _, c := range columns {
		out.Titles = append(out.Titles, c.title)
	}
	for i := range list.Processes {
		row := make([]string, 0, len(columns))
		for _, c := range columns {
			row = append(row, c.cell(&list, &list.Processes[i]))
		}
		out.Processes = append(out.Processes, row)
	}
	return writeJSON(w, http.StatusOK, out)
}
