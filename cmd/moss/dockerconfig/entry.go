package dockerconfig

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/registry"
)

// decode reads an entry: user and password are one text, user:password, in
// base64.
func (e entry) decode(server string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{ServerAddress: server}
	var text string
	for key, to := range map[string]*string{
		"auth": &text, "username": &a.Username, "password": &a.Password,
		"identitytoken": &a.IdentityToken, "registrytoken": &a.RegistryToken,
	} {
		if raw, ok := e[key]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return a, fmt.Errorf("cannot read the credentials for %s: %s: %w", server, key, err)
			}
		}
	}
	if text == "" {
		return a, nil
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return a, fmt.Errorf("cannot read the credentials for %s: %w", server, err)
	}
	user, password, ok := strings.Cut(string(plain), ":")
	if !ok || user == "" {
		return a, fmt.Errorf("cannot read the credentials for %s: they are not user:password", server)
	}
	a.Username, a.Password = user, strings.Trim(password, "\x00")
	return a, nil
}

// encode puts credentials into an entry; with none, what was there goes.
func (e entry) encode(a registry.AuthConfig) error {
	text := ""
	if a.Username != "" || a.Password != "" {
		text = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	}
	for key, value := range map[string]string{
		"auth": text, "username": "", "password": "", "identitytoken": a.IdentityToken, "registrytoken": a.RegistryToken,
	} {
		if value == "" {
			delete(e, key)
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		e[key] = raw
	}
	return nil
}
