package registry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	dockerHub = "docker.io"
	noConf    = "none.d" // a directory that stays empty
)

// conf is what we take of registries.conf, and what we write.
type conf struct {
	Registries []sysregistriesv2.Registry `toml:"registry"`
	Helpers    []string                   `toml:"credential-helpers,omitempty"`

	from []string // the files it was read from, for messages
}

// readConf reads the user's registries.conf, else the machine's, with their drop-ins, and adds docker.io's
// mirrors of daemon.json in front.
func (c *Client) readConf(mirrors []string) (conf, error) {
	etc := filepath.Join(c.o.EtcDir, "containers/registries.conf")
	parts := [][2]string{{etc, etc + ".d"}}
	if c.o.ConfigDir != "" {
		user := filepath.Join(c.o.ConfigDir, "containers/registries.conf")
		if _, err := os.Stat(user); err == nil {
			parts = [][2]string{{user, user + ".d"}} // as containers-registries.conf(5) has it: the machine's is not read
		} else {
			parts = append(parts, [2]string{user, user + ".d"})
		}
	}
	var all conf
	for _, p := range parts {
		if err := all.read(p[0], p[1]); err != nil {
			return conf{}, err
		}
	}
	return all, all.addMirrors(mirrors)
}

// read lays a file and its drop-ins over what there is.
func (f *conf) read(path, dir string) error {
	shown := path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path, shown = os.DevNull, dir
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	got, err := sysregistriesv2.TryUpdatingCache(&types.SystemContext{SystemRegistriesConfPath: path, SystemRegistriesConfDirPath: dir})
	if err != nil {
		return moss.Errorf(moss.Invalid, "cannot use the registries in %s: %w", shown, err)
	}
	for _, r := range got.Registries {
		f.Registries = slices.DeleteFunc(f.Registries, func(have sysregistriesv2.Registry) bool { return have.Prefix == r.Prefix })
		f.Registries = append(f.Registries, r)
	}
	if len(got.CredentialHelpers) > 0 {
		f.Helpers = got.CredentialHelpers
	}
	f.from = append(f.from, shown)
	return nil
}

// addMirrors puts mirrors in front of docker.io's.
func (f *conf) addMirrors(mirrors []string) error {
	if len(mirrors) == 0 {
		return nil
	}
	var ends []sysregistriesv2.Endpoint
	for _, m := range mirrors {
		scheme, host, ok := strings.Cut(strings.TrimSuffix(m, "/"), "://")
		if !ok || !isHost(host) || (scheme != "http" && scheme != "https") {
			return moss.Errorf(moss.Invalid, "cannot use the setting %q: %q is not like https://hub.example.com", "registry-mirrors", m)
		}
		ends = append(ends, sysregistriesv2.Endpoint{Location: host, Insecure: scheme == "http"})
	}
	i := slices.IndexFunc(f.Registries, func(r sysregistriesv2.Registry) bool { return r.Prefix == dockerHub })
	if i < 0 {
		i = len(f.Registries)
		f.Registries = append(f.Registries, sysregistriesv2.Registry{Prefix: dockerHub, Endpoint: sysregistriesv2.Endpoint{Location: dockerHub}})
	}
	f.Registries[i].Mirrors = append(ends, f.Registries[i].Mirrors...)
	return nil
}

// confFor writes the registries.conf for talk with one host: which hosts are
// insecure may depend on their addresses, which no file can say. It returns
// the hosts that may be talked to. direct leaves mirrors out.
func (c *Client) confFor(ctx context.Context, host string, direct bool) (path string, hosts []string, err error) {
	now := c.now.Load()
	out := conf{Helpers: now.base.Helpers, Registries: slices.Clone(now.base.Registries)}
	hosts = []string{host}
	bad := map[string]bool{host: now.insecure.is(ctx, host)}
	check := func(e *sysregistriesv2.Endpoint) {
		h, _, _ := strings.Cut(e.Location, "/")
		if _, known := bad[h]; !known {
			bad[h] = now.insecure.is(ctx, h)
			hosts = append(hosts, h)
		}
		e.Insecure = e.Insecure || bad[h]
	}
	own := false
	for i := range out.Registries {
		r := &out.Registries[i]
		own = own || r.Prefix == host
		if r.Mirrors = slices.Clone(r.Mirrors); direct {
			r.Mirrors = nil
		}
		if !about(r.Prefix, host) {
			continue
		}
		if r.Location != "" {
			check(&r.Endpoint)
		} else {
			r.Insecure = r.Insecure || bad[host]
		}
		for j := range r.Mirrors {
			check(&r.Mirrors[j])
		}
	}
	if bad[host] && !own {
		out.Registries = append(out.Registries, sysregistriesv2.Registry{Prefix: host, Endpoint: sysregistriesv2.Endpoint{Location: host, Insecure: true}})
	}
	path, err = c.writeConf(out)
	return path, hosts, err
}

// about says whether an entry with that prefix can speak of images of a host.
func about(prefix, host string) bool {
	h, _, _ := strings.Cut(prefix, "/")
	if rest, wild := strings.CutPrefix(h, "*"); wild {
		name, _, _ := strings.Cut(host, ":")
		return strings.HasSuffix(host, rest) || strings.HasSuffix(name, rest)
	}
	return h == host
}

// writeConf writes a generated file unless it is there. It is named by what is in it, as the library
// reads a path only once.
func (c *Client) writeConf(f conf) (string, error) {
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(f); err != nil {
		return "", err
	}
	path := filepath.Join(c.o.TempDir, "registries-"+short(text.Bytes())+".conf")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[path] {
		return path, nil
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return "", moss.Wrap(err, "write the registries' configuration", "")
	}
	c.files[path] = true
	return path, nil
}
