package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// attestationsKey is where the statements about an image are kept with it:
// the JSON of a list of keptAttestation. Pull and load write it through
// newRecord, Attestations reads it back.
const attestationsKey = "moss-attestations"

const (
	maxStatement  = 16 << 20 // bytes of one statement
	maxStatements = 64       // of one image
)

// keptAttestation is how a statement is kept.
type keptAttestation struct {
	PredicateType string        `json:"predicateType"`
	MediaType     string        `json:"mediaType"`
	Digest        digest.Digest `json:"digest"`
	Statement     []byte        `json:"bytes"` // as they came: their digest is kept, too
}

// isAttestation tells whether an entry of an index is no image but speaks of
// one, and of which by the digest of its manifest.
func isAttestation(d imgspec.Descriptor) (about digest.Digest, ok bool) {
	if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
		return "", false
	}
	return digest.Digest(d.Annotations["vnd.docker.reference.digest"]), true
}

// readAttestations returns the statements that an attestation manifest names;
// blob fetches one, checked against its descriptor.
func readAttestations(man []byte, blob func(imgspec.Descriptor) ([]byte, error)) ([]moss.Attestation, error) {
	var m imgspec.Manifest
	if err := json.Unmarshal(man, &m); err != nil {
		return nil, fmt.Errorf("attestation manifest: %w", err)
	}
	if len(m.Layers) > maxStatements {
		return nil, fmt.Errorf("an attestation manifest has %d statements", len(m.Layers))
	}
	var list []moss.Attestation
	for _, l := range m.Layers {
		if err := l.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("an attestation has the digest %.100q: %w", l.Digest, err)
		}
		if l.Size < 0 || l.Size > maxStatement {
			return nil, fmt.Errorf("attestation %s is too large: %d bytes", l.Digest, l.Size)
		}
		b, err := blob(l)
		if err != nil {
			return nil, err
		}
		if !json.Valid(b) {
			continue // a form that cannot be told in an answer
		}
		a := moss.Attestation{PredicateType: l.Annotations["in-toto.io/predicate-type"], MediaType: l.MediaType, Digest: l.Digest.String(), Statement: b}
		if a.PredicateType == "" {
			a.PredicateType = predicateType(b)
		}
		list = append(list, a)
	}
	return list, nil
}

// predicateType reads the type out of an in-toto statement, bare or in a DSSE envelope.
func predicateType(b []byte) string {
	var s struct {
		PredicateType string `json:"predicateType"`
		Payload       []byte `json:"payload"`
	}
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	if s.PredicateType == "" && len(s.Payload) > 0 && json.Unmarshal(s.Payload, &s) != nil {
		return ""
	}
	return s.PredicateType
}

func encodeAttestations(list []moss.Attestation) ([]byte, error) {
	kept := make([]keptAttestation, len(list))
	for i, a := range list {
		kept[i] = keptAttestation{PredicateType: a.PredicateType, MediaType: a.MediaType, Digest: digest.Digest(a.Digest), Statement: a.Statement}
	}
	return json.Marshal(kept)
}

// Attestations returns the statements kept with an image, of all types for none.
func (s *Store) Attestations(ctx context.Context, id moss.ImageID, types []string) ([]moss.Attestation, error) {
	if err := ctx.Err(); err != nil {
		return nil, moss.Wrap(err, "read the attestations of", id.Short())
	}
	if _, ok := s.get(id); !ok {
		return nil, notFound(string(id))
	}
	raw, err := s.store.Image(hexOf(id))
	if err != nil {
		return nil, moss.Wrap(err, "read the attestations of", id.Short())
	}
	if !slices.Contains(raw.BigDataNames, attestationsKey) {
		return nil, nil
	}
	b, err := s.store.ImageBigData(hexOf(id), attestationsKey)
	if err != nil {
		return nil, moss.Wrap(err, "read the attestations of", id.Short())
	}
	list, err := decodeAttestations(b)
	if err != nil {
		return nil, moss.Wrap(err, "read the attestations of", id.Short())
	}
	return slices.DeleteFunc(list, func(a moss.Attestation) bool { return len(types) > 0 && !slices.Contains(types, a.PredicateType) }), nil
}

// decodeAttestations undoes encodeAttestations. A statement that is not JSON cannot be told.
func decodeAttestations(b []byte) ([]moss.Attestation, error) {
	var kept []keptAttestation
	if err := json.Unmarshal(b, &kept); err != nil {
		return nil, err
	}
	var list []moss.Attestation
	for _, k := range kept {
		if !json.Valid(k.Statement) {
			return nil, fmt.Errorf("what is kept of %.100q is damaged", k.Digest)
		}
		list = append(list, moss.Attestation{PredicateType: k.PredicateType, MediaType: k.MediaType, Digest: k.Digest.String(), Statement: k.Statement})
	}
	return list, nil
}

// attestationData is what a record has of them; nil for none.
func attestationData(list []moss.Attestation) ([]storage.ImageBigDataOption, error) {
	if len(list) == 0 {
		return nil, nil
	}
	b, err := encodeAttestations(list)
	if err != nil {
		return nil, err
	}
	return []storage.ImageBigDataOption{{Key: attestationsKey, Data: b, Digest: digest.FromBytes(b)}}, nil
}
