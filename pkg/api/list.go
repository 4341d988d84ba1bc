package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) listContainers(w *response, r *request) error {
	f, keep, err := containerFilter(r)
	if err != nil {
		return err
	}
	list, err := s.o.Views.List(f)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c *moss.Container) bool { return !keep(c) })
	sizes, err := s.sizes(r, list)
	if err != nil {
		return err
	}
	body, err := s.rows.list(list, sizes, r.version, s.now())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(body)
	return err
}

// sizes are those of containers on the disk, where they are asked for.
func (s *Server) sizes(r *request, list []*moss.Container) (map[moss.ContainerID]moss.ContainerUsage, error) {
	if !r.flag("size") || len(list) == 0 {
		return nil, nil //nolint:nilnil // nobody asks
	}
	ids := make([]moss.ContainerID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return s.o.Use.Sizes(r.Context(), ids)
}

var containerFilters = []string{
	"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label",
	"name", "network", "publish", "since", "status", "volume",
}

// containerFilter reads the parameters of a list. keep is the part of the
// filter that needs no more than the container.
func containerFilter(r *request) (f moss.ContainerFilter, keep func(*moss.Container) bool, err error) {
	args, err := parseFilters(r.str("filters"), containerFilters...)
	if err != nil {
		return f, nil, err
	}
	f = moss.ContainerFilter{
		All: r.flag("all"), IDs: args["id"], Names: args["name"], Labels: args["label"],
		Ancestors: args["ancestor"], Networks: args["network"], Volumes: args["volume"],
	}
	if f.Limit, err = r.integer("limit", 0); err != nil {
		return f, nil, err
	}
	f.Limit = max(f.Limit, 0) // clients say -1 for no limit
	for key, to := range map[string]*string{"before": &f.Before, "since": &f.Since} {
		if *to, err = args.one(key); err != nil {
			return f, nil, err
		}
		if *to == "" {
			*to = r.str(key)
		}
	}
	for key, to := range map[string]*[]string{"publish": &f.Publish, "expose": &f.Expose} {
		if *to, err = portFilter(key, args[key]); err != nil {
			return f, nil, err
		}
	}
	for _, code := range args["exited"] {
		n, err := strconv.Atoi(code)
		if err != nil {
			return f, nil, badFilter("exited", code)
		}
		f.ExitCodes = append(f.ExitCodes, n)
	}
	for _, state := range args["status"] {
		if container.ValidateContainerState(container.ContainerState(state)) != nil {
			return f, nil, badFilter("status", state)
		}
		f.States = append(f.States, moss.State(state))
	}
	for _, h := range args["health"] {
		if container.ValidateHealthStatus(container.HealthStatus(h)) != nil {
			return f, nil, badFilter("health", h)
		}
		f.Health = append(f.Health, moss.HealthStatus(h))
	}
	// Asking for a state or an exit code asks for those that do not run too.
	f.All = f.All || len(f.States) > 0 || len(f.ExitCodes) > 0
	none, err := noneFilters(args)
	if err != nil {
		return f, nil, err
	}
	return f, func(c *moss.Container) bool { return !none && args.pairs("annotation", c.Host.Annotations) }, nil
}

// noneFilters reads the filters on what no container of moss has: a task of a
// swarm, an isolation. none says that nothing can match.
func noneFilters(args filters) (none bool, err error) {
	task, _, err := args.boolean("is-task")
	if err != nil {
		return false, err
	}
	return task || !args.exact("isolation", "default", ""), nil
}

// portFilter spells ranges out: port[-port][/proto].
func portFilter(key string, values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		r, err := network.ParsePortRange(v)
		if err != nil || !slices.Contains([]network.IPProtocol{"tcp", "udp", "sctp"}, r.Proto()) {
			return nil, badFilter(key, v)
		}
		for p := range r.All() {
			out = append(out, p.String())
		}
	}
	return out, nil
}

func (s *Server) inspectContainer(w *response, r *request) error {
	c, err := s.o.Views.Get(r.containerRef())
	if err != nil {
		return err
	}
	driver, err := s.storageDriver(r.Context())
	if err != nil {
		return err
	}
	out := encodeInspect(&c, r.version, driver)
	sizes, err := s.sizes(r, []*moss.Container{&c})
	if err != nil {
		return err
	}
	if size, ok := sizes[c.ID]; ok {
		out.SizeRw, out.SizeRootFs = &size.Written, &size.Total
	}
	return writeJSON(w, http.StatusOK, out)
}

// storageDriver is the storage driver's name, which does not change while the engine runs.
func (s *Server) storageDriver(ctx context.Context) (string, error) {
	if p := s.driver.Load(); p != nil {
		return *p, nil
	}
	info, err := s.o.System.Info(ctx)
	if err != nil {
		return "", err
	}
	s.driver.Store(&info.Storage.Driver)
	return info.Storage.Driver, nil
}
