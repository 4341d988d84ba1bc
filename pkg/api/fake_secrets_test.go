package api

import (
	"context"
	"fmt"

	"github.com/moss-containers/moss/pkg/moss"
)

// fakeSecrets is the service of secrets with a secret and a config "db", which
// are in use.
type fakeSecrets struct{}

func fakeSecret(kind moss.SecretKind, name string) moss.Secret {
	return moss.Secret{ID: moss.SecretID("id-" + name), Kind: kind, Name: name, Labels: map[string]string{"a": "b"}, Created: noon, Updated: noon, Version: 3}
}

func (fakeSecrets) Create(_ context.Context, r moss.SecretRequest) (moss.Secret, error) {
	return moss.Secret{ID: moss.SecretID(fmt.Sprintf("%s %s %v %s", r.Kind, r.Name, r.Labels, r.Data))}, nil
}

func (fakeSecrets) Get(kind moss.SecretKind, ref string) (moss.Secret, error) {
	if ref != "db" && ref != "id-db" {
		return moss.Secret{}, moss.Errorf(moss.NotFound, "%s %s not found", kind, ref)
	}
	return fakeSecret(kind, "db"), nil
}

func (fakeSecrets) Data(context.Context, moss.SecretID) ([]byte, error) { return []byte("offen"), nil }

func (fakeSecrets) List(f moss.SecretFilter) []moss.Secret {
	if len(f.Prefixes) > 0 {
		return nil
	}
	return []moss.Secret{fakeSecret(f.Kind, "db")}
}

func (fakeSecrets) Relabel(_ context.Context, _ moss.SecretKind, _ string, version uint64, _ map[string]string) error {
	if version != 3 {
		return moss.Errorf(moss.Invalid, "update out of sequence")
	}
	return nil
}

func (fakeSecrets) Remove(_ context.Context, kind moss.SecretKind, ref string) error {
	if ref == "db" {
		return moss.Errorf(moss.Conflict, "%s 'db' is in use by the following container: c", kind)
	}
	return nil
}
