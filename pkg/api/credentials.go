package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"github.com/moss-containers/moss/pkg/moss"
)

// authBody is what clients show of a user: docker's, with the member that older
// clients send.
type authBody struct {
	registry.AuthConfig
	Email string `json:"email"` // registries have not asked for it since their version 2
}

func (a authBody) credentials() (moss.Credentials, error) {
	c := moss.Credentials{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken, ServerAddress: a.ServerAddress,
	}
	if a.Auth == "" || c.Username != "" {
		return c, nil
	}
	// The form in which docker's config.json keeps them.
	plain, err := decodeBase64(a.Auth)
	name, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok {
		return moss.Credentials{}, moss.Errorf(moss.Invalid, "invalid auth: want user:password in base64")
	}
	c.Username, c.Password = name, strings.TrimRight(password, "\x00")
	return c, nil
}

// credentials are those of the request's header; none means anonymous. What is
// not valid is refused: it would be a mystery why a registry says no.
func (r *request) credentials() (moss.Credentials, error) {
	header := r.Header.Get(registry.AuthHeader)
	if header == "" {
		return moss.Credentials{}, nil
	}
	b, err := decodeBase64(header)
	if err != nil {
		return moss.Credentials{}, moss.Errorf(moss.Invalid, "invalid X-Registry-Auth header: %w", err)
	}
	return decodeAuth(b)
}

// credentialsOrBody are those of the header, or of the body, where the oldest
// clients have them.
func (r *request) credentialsOrBody(w *response) (moss.Credentials, error) {
	body, err := smallBody(w.ResponseWriter, r.Request, bodyTimeout)
	if err != nil {
		return moss.Credentials{}, moss.Errorf(moss.Invalid, "cannot read the request's body: %w", err)
	}
	if r.Header.Get(registry.AuthHeader) != "" || len(bytes.TrimSpace(body)) == 0 {
		return r.credentials()
	}
	c, err := decodeAuth(body)
	if err != nil {
		return c, moss.Errorf(moss.Invalid, "bad parameters and missing X-Registry-Auth: %w", err)
	}
	return c, nil
}

func decodeAuth(b []byte) (moss.Credentials, error) {
	var a authBody
	if err := json.Unmarshal(b, &a); err != nil {
		return moss.Credentials{}, moss.Errorf(moss.Invalid, "invalid X-Registry-Auth header: %w", err)
	}
	return a.credentials()
}

// decodeBase64 reads both alphabets, padded or not: clients differ.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	return base64.RawURLEncoding.DecodeString(s)
}
