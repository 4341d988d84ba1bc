package registry

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

func TestRegistries(t *testing.T) {
	porttest.Registries(t, func(t *testing.T) porttest.RegistriesFixture {
		r := registry.New(t, registry.Options{Users: map[string]string{"me": "secret"}})
		at := porttest.RegistryAt{Base: "http://" + r.Host, Username: "me", Password: "secret"}
		return porttest.RegistriesFixture{
			Registries: client(t, Options{}),
			Registry:   at,
			Good:       moss.Credentials{Username: "me", Password: "secret", ServerAddress: r.Host},
			Offer:      func(t *testing.T, repo string) { porttest.Publish(t, at, repo, "1", porttest.Busybox()) },
		}
	})
}
