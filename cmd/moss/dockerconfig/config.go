// Package dockerconfig reads and writes the credentials for registries in
// docker's config.json, as docker's own client does, so that both share one
// login: plain entries, credential helpers and identity tokens. What else the
// file holds stays as it is.
package dockerconfig

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/registry"
)

// IndexServer is the key of docker.io.
const IndexServer = "https://index.docker.io/v1/"

// Config is the configuration as it was read.
type Config struct {
	path         string
	keys         map[string]json.RawMessage // all of the file
	auths        map[string]entry
	env          map[string]entry  // of $DOCKER_AUTH_CONFIG, which comes first
	store        string            // helper for all
	each         map[string]string // helper for one
	keysToDetach string
}

// entry is one registry's credentials, all keys of it.
type entry map[string]json.RawMessage

// Load reads the file in $DOCKER_CONFIG or ~/.docker. A file that is not there
// is an empty one.
func Load(getenv func(string) string) (*Config, error) {
	c := &Config{keys: make(map[string]json.RawMessage), auths: make(map[string]entry)}
	dir := getenv("DOCKER_CONFIG")
	if dir == "" && getenv("HOME") != "" {
		dir = filepath.Join(getenv("HOME"), ".docker")
	}
	if dir != "" {
		c.path = filepath.Join(dir, "config.json")
		if err := c.read(); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", c.path, err)
		}
	}
	if text := getenv("DOCKER_AUTH_CONFIG"); text != "" {
		var env struct{ Auths map[string]entry }
		if err := json.Unmarshal([]byte(text), &env); err != nil {
			return nil, fmt.Errorf("cannot read $DOCKER_AUTH_CONFIG: %w", err)
		}
		c.env = env.Auths
	}
	return c, nil
}

func (c *Config) read() error {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &c.keys); err != nil {
		return err
	}
	for key, to := range map[string]any{"auths": &c.auths, "credsStore": &c.store, "credHelpers": &c.each, "detachKeys": &c.keysToDetach} {
		raw, ok := c.keys[key]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if c.keys == nil { // the file said null
		c.keys = make(map[string]json.RawMessage)
	}
	if c.auths == nil {
		c.auths = make(map[string]entry)
	}
	return nil
}

// Path is the file's.
func (c *Config) Path() string { return c.path }

// DetachKeys are the keys that leave a container's terminal, empty for docker's own.
func (c *Config) DetachKeys() string { return c.keysToDetach }

// Helper is the name of the credential helper for a registry, "" for none.
func (c *Config) Helper(server string) string { return cmp.Or(c.each[server], c.store) }

// Get finds a registry's credentials; none are empty ones.
func (c *Config) Get(server string) (registry.AuthConfig, error) {
	if e, ok := find(c.env, server); ok {
		return e.decode(server)
	}
	if helper := c.Helper(server); helper != "" {
		return fromHelper(helper, server)
	}
	if e, ok := find(c.auths, server); ok {
		return e.decode(server)
	}
	return registry.AuthConfig{ServerAddress: server}, nil
}

// find looks for a registry by its key, then by its host: old keys were URLs.
func find(auths map[string]entry, server string) (entry, bool) {
	if e, ok := auths[server]; ok {
		return e, true
	}
	for _, key := range slices.Sorted(maps.Keys(auths)) {
		if Host(key) == server {
			return auths[key], true
		}
	}
	return nil, false
}

// Store keeps a registry's credentials, in its helper or in the file.
func (c *Config) Store(auth registry.AuthConfig) error {
	helper := c.chooseHelper(auth.ServerAddress)
	kept := make(entry) // other keys of the entry stay
	maps.Copy(kept, c.auths[auth.ServerAddress])
	if helper != "" {
		if err := toHelper(helper, auth); err != nil {
			return err
		}
		auth = registry.AuthConfig{ServerAddress: auth.ServerAddress}
	}
	if err := kept.encode(auth); err != nil {
		return err
	}
	c.auths[auth.ServerAddress] = kept
	return c.save()
}

// Erase forgets a registry's credentials under all these keys. It tells
// whether there were any.
func (c *Config) Erase(servers ...string) (found bool, err error) {
	var problems []error
	for _, s := range servers {
		if helper := c.Helper(s); helper != "" {
			had, err := eraseFromHelper(helper, s)
			if err != nil {
				problems = append(problems, err)
			}
			found = found || had
		}
		if _, ok := c.auths[s]; ok {
			found = true
			delete(c.auths, s)
		}
	}
	if found {
		problems = append(problems, c.save())
	}
	return found, errors.Join(problems...)
}

// save writes the file anew, whole or not at all, readable by its owner only.
func (c *Config) save() error {
	if c.path == "" {
		return errors.New("cannot keep credentials: neither $DOCKER_CONFIG nor $HOME is set")
	}
	if err := c.write(); err != nil {
		return fmt.Errorf("cannot write %s: %w", c.path, err)
	}
	return nil
}

func (c *Config) write() (err error) {
	for key, v := range map[string]any{"auths": c.auths, "credsStore": c.store} {
		if v == "" {
			continue
		}
		if c.keys[key], err = json.Marshal(v); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(c.keys, "", "\t")
	if err != nil {
		return err
	}
	target := c.path
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real // a link to it, of a collection of dotfiles, stays one
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".config.json-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

// Host is the host of a registry's key: old keys were URLs.
func Host(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	return host
}
