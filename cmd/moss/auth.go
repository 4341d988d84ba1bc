package main

import (
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"

	"github.com/moss-containers/moss/cmd/moss/dockerconfig"
)

// authFor is the X-Registry-Auth header for the registry in a name; "" where
// nobody logged in to it.
func (a *app) authFor(ref reference.Named) (string, error) {
	cfg, err := dockerconfig.Load(a.getenv)
	if err != nil {
		// A public image needs no login.
		fmt.Fprintf(a.err, "WARNING: %v\n", err)
		return "", nil
	}
	auth, err := cfg.Get(serverKey(reference.Domain(ref)))
	if err != nil {
		fmt.Fprintf(a.err, "WARNING: %v\n", err)
		return "", nil
	}
	return header(auth)
}

func header(auth registry.AuthConfig) (string, error) {
	if auth.Username == "" && auth.Password == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
		return "", nil
	}
	return authconfig.Encode(auth)
}

// serverKey is the key of a registry in config.json: that of docker.io is a
// URL, for reasons of history.
func serverKey(server string) string {
	switch server {
	case "", "docker.io", "index.docker.io", dockerconfig.IndexServer:
		return dockerconfig.IndexServer
	}
	return dockerconfig.Host(server)
}
