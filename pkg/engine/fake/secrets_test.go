package fake_test

import (
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
)

func TestSecrets(t *testing.T) {
	porttest.Secrets(t, func(t *testing.T) porttest.SecretStore {
		return fake.NewSecrets(filepath.Join(t.TempDir(), "secrets"))
	})
}
