package dockerconfig

import (
	"fmt"
	"os/exec"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/moby/moby/api/types/registry"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	helperPrefix = "docker-credential-"
	// tokenUser is the user under which a helper keeps an identity token.
	tokenUser = "<token>"
)

func program(helper string) client.ProgramFunc {
	return client.NewShellProgramFunc(helperPrefix + helper)
}

func fromHelper(helper, server string) (registry.AuthConfig, error) {
	return ask(program(helper), helper, server)
}

func ask(run client.ProgramFunc, helper, server string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{ServerAddress: server}
	got, err := client.Get(run, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return a, nil
	case err != nil:
		return a, fmt.Errorf("cannot ask %s%s for credentials: %s", helperPrefix, helper, moss.Shown(err.Error())) // it quotes what the helper prints
	case got.Username == tokenUser:
		a.IdentityToken = got.Secret
	default:
		a.Username, a.Password = got.Username, got.Secret
	}
	return a, nil
}

func toHelper(helper string, a registry.AuthConfig) error {
	c := &credentials.Credentials{ServerURL: a.ServerAddress, Username: a.Username, Secret: a.Password}
	if a.IdentityToken != "" {
		c.Username, c.Secret = tokenUser, a.IdentityToken
	}
	if err := client.Store(program(helper), c); err != nil {
		return fmt.Errorf("cannot keep credentials in %s%s: %w", helperPrefix, helper, err)
	}
	return nil
}

// eraseFromHelper asks first: some helpers call it an error to erase nothing.
func eraseFromHelper(helper, server string) (found bool, err error) {
	got, err := client.Get(program(helper), server)
	if credentials.IsErrCredentialsNotFound(err) || err == nil && got.Username == "" && got.Secret == "" {
		return false, nil
	}
	if err := client.Erase(program(helper), server); err != nil {
		return false, fmt.Errorf("cannot erase credentials from %s%s: %w", helperPrefix, helper, err)
	}
	return true, nil
}

// chooseHelper is Helper, but where the file knows no way of keeping
// credentials yet, the desktop's helper becomes it, if there is one.
func (c *Config) chooseHelper(server string) string {
	if len(c.auths) == 0 && len(c.each) == 0 && c.store == "" {
		name := "secretservice"
		if _, err := exec.LookPath("pass"); err == nil {
			name = "pass"
		}
		if _, err := exec.LookPath(helperPrefix + name); err == nil {
			c.store = name
		}
	}
	return c.Helper(server)
}
