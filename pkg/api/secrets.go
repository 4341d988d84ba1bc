package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/swarm"

	"github.com/moss-containers/moss/pkg/moss"
)

// Secrets keeps secrets and configs. Docker has them in a swarm only; here they
// are the engine's own.
type Secrets interface {
	Create(ctx context.Context, r moss.SecretRequest) (moss.Secret, error)
	Get(kind moss.SecretKind, ref string) (moss.Secret, error)
	// Data is a config's content.
	Data(ctx context.Context, config moss.SecretID) ([]byte, error)
	List(f moss.SecretFilter) []moss.Secret
	Relabel(ctx context.Context, kind moss.SecretKind, ref string, version uint64, labels map[string]string) error
	// Remove takes one away. Errors: Conflict while a container has it.
	Remove(ctx context.Context, kind moss.SecretKind, ref string) error
}

// noTemplates refuses what would have to be filled in for a service's tasks.
func noTemplates(templating *swarm.Driver) error {
	return refuseIf(templating != nil && templating.Name != "", "templates of secrets and configs", "they are filled in for the tasks of a swarm's service: write the content as it is to be")
}

func (s *Server) createSecret(w *response, r *request) error {
	var in swarm.SecretSpec
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	err := first(
		func() error {
			return refuseIf(in.Driver != nil && in.Driver.Name != "", "drivers of secrets", "leave out --driver: moss keeps them itself")
		},
		func() error { return noTemplates(in.Templating) },
	)
	if err != nil {
		return err
	}
	made, err := s.o.Secrets.Create(r.Context(), moss.SecretRequest{Kind: moss.KindSecret, Name: in.Name, Labels: in.Labels, Data: in.Data})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.SecretCreateResponse{ID: string(made.ID)})
}

func (s *Server) createConfig(w *response, r *request) error {
	var in swarm.ConfigSpec
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	if err := noTemplates(in.Templating); err != nil {
		return err
	}
	made, err := s.o.Secrets.Create(r.Context(), moss.SecretRequest{Kind: moss.KindConfig, Name: in.Name, Labels: in.Labels, Data: in.Data})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.ConfigCreateResponse{ID: string(made.ID)})
}

func secretFilter(kind moss.SecretKind, r *request) (moss.SecretFilter, error) {
	f, err := parseFilters(r.str("filters"), "id", "label", "name", "names")
	return moss.SecretFilter{Kind: kind, Names: f["names"], Prefixes: f["name"], IDs: f["id"], Labels: f["label"]}, err
}

func (s *Server) listSecrets(w *response, r *request) error {
	f, err := secretFilter(moss.KindSecret, r)
	if err != nil {
		return err
	}
	out := []swarm.Secret{}
	for _, one := range s.o.Secrets.List(f) {
		out = append(out, encodeSecret(one))
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) listConfigs(w *response, r *request) error {
	f, err := secretFilter(moss.KindConfig, r)
	if err != nil {
		return err
	}
	out := []swarm.Config{}
	for _, one := range s.o.Secrets.List(f) {
		c, err := s.encodeConfig(r.Context(), one)
		if moss.ClassOf(err) == moss.NotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		out = append(out, c)
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) inspectSecret(w *response, r *request) error {
	one, err := s.o.Secrets.Get(moss.KindSecret, r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeSecret(one))
}

func (s *Server) inspectConfig(w *response, r *request) error {
	one, err := s.o.Secrets.Get(moss.KindConfig, r.name)
	if err != nil {
		return err
	}
	c, err := s.encodeConfig(r.Context(), one)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (s *Server) updateSecret(w *response, r *request) error {
	var in swarm.SecretSpec
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	return s.relabelSecret(w, r, moss.KindSecret, in.Annotations, len(in.Data) > 0 || in.Driver != nil || in.Templating != nil)
}

func (s *Server) updateConfig(w *response, r *request) error {
	var in swarm.ConfigSpec
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	other := in.Templating != nil
	if len(in.Data) > 0 && !other { // what was read may be sent back
		one, err := s.o.Secrets.Get(moss.KindConfig, r.name)
		if err != nil {
			return err
		}
		have, err := s.o.Secrets.Data(r.Context(), one.ID)
		if err != nil {
			return err
		}
		other = string(have) != string(in.Data)
	}
	return s.relabelSecret(w, r, moss.KindConfig, in.Annotations, other)
}

// relabelSecret carries out an update, which is of labels alone.
func (s *Server) relabelSecret(w *response, r *request, kind moss.SecretKind, spec swarm.Annotations, other bool) error {
	version, err := strconv.ParseUint(r.str("version"), 10, 64)
	if err != nil {
		return invalid("invalid %s version '%s': %w", kind, r.str("version"), err)
	}
	one, err := s.o.Secrets.Get(kind, r.name)
	if err != nil {
		return err
	}
	if other || spec.Name != "" && spec.Name != one.Name {
		return invalid("only updates to Labels are allowed")
	}
	if err := s.o.Secrets.Relabel(r.Context(), kind, string(one.ID), version, spec.Labels); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) removeSecret(w *response, r *request) error {
	return s.dropSecret(w, r, moss.KindSecret)
}

func (s *Server) removeConfig(w *response, r *request) error {
	return s.dropSecret(w, r, moss.KindConfig)
}

func (s *Server) dropSecret(w *response, r *request, kind moss.SecretKind) error {
	if err := s.o.Secrets.Remove(r.Context(), kind, r.name); err != nil {
		return err
	}
	return noContent(w)
}

func secretMeta(one moss.Secret) (swarm.Meta, swarm.Annotations) {
	labels := one.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return swarm.Meta{Version: swarm.Version{Index: one.Version}, CreatedAt: one.Created, UpdatedAt: one.Updated},
		swarm.Annotations{Name: one.Name, Labels: labels}
}

func encodeSecret(one moss.Secret) swarm.Secret {
	out := swarm.Secret{ID: string(one.ID)}
	out.Meta, out.Spec.Annotations = secretMeta(one)
	return out
}

func (s *Server) encodeConfig(ctx context.Context, one moss.Secret) (swarm.Config, error) {
	out := swarm.Config{ID: string(one.ID)}
	out.Meta, out.Spec.Annotations = secretMeta(one)
	var err error
	out.Spec.Data, err = s.o.Secrets.Data(ctx, one.ID)
	return out, err
}
