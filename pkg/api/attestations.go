package api

import (
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) attestations(w *response, r *request) error {
	platform, err := onePlatform(r.strs("platform"))
	if err != nil {
		return err
	}
	list, err := s.o.Archives.Attestations(r.Context(), r.name, platform, r.strs("type"))
	if err != nil {
		return err
	}
	out := []image.AttestationStatement{}
	for _, a := range list {
		one, err := encodeAttestation(a, r.flag("statement"))
		if err != nil {
			return err
		}
		out = append(out, one)
	}
	return writeJSON(w, http.StatusOK, out)
}

func encodeAttestation(a moss.Attestation, whole bool) (image.AttestationStatement, error) {
	out := image.AttestationStatement{
		Descriptor:    ocispec.Descriptor{MediaType: a.MediaType, Digest: digest.Digest(a.Digest), Size: int64(len(a.Statement))},
		PredicateType: a.PredicateType,
	}
	if !whole {
		return out, nil
	}
	if !json.Valid(a.Statement) {
		return out, moss.Errorf(moss.Internal, "the attestation %s is damaged: it is no JSON", a.Digest)
	}
	raw := json.RawMessage(a.Statement)
	out.Statement = &raw
	return out, nil
}
