package plugins

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// place is where a plugin listens.
type place struct {
	address string // unix:///path, tcp://host:port, http://… or https://…
	tls     bool
	tlsConfig
	// Which socket or file it was: another one of the same name is another plugin.
	device, inode uint64
	changed       int64 // in ns
}

// tlsConfig is docker's TLSConfig of a .json file.
type tlsConfig struct {
	InsecureSkipVerify bool
	CAFile             string
	CertFile           string
	KeyFile            string
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// maxSpec bounds a .spec or .json file.
const maxSpec = 64 << 10

// find looks for a plugin of that name. Sockets come before files, as with docker.
func (r *Registry) find(name string) (place, error) {
	if !validName.MatchString(name) {
		return place{}, moss.Errorf(moss.NotFound, "plugin %q not found: that is no name of a plugin", name)
	}
	for _, dir := range r.o.Sockets {
		for _, path := range paths(dir, name, ".sock") {
			if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
				at := place{address: "unix://" + path}
				at.identify(info)
				return at, nil
			}
		}
	}
	for _, dir := range r.o.Specs {
		for _, path := range slices.Concat(paths(dir, name, ".spec"), paths(dir, name, ".json")) {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			at, err := readSpec(path)
			at.identify(info)
			return at, moss.Wrap(err, "use the plugin in", path)
		}
	}
	return place{}, moss.Errorf(moss.NotFound, "plugin %q not found", name)
}

func paths(dir, name, ext string) []string {
	return []string{filepath.Join(dir, name+ext), filepath.Join(dir, name, name+ext)}
}

// readSpec reads the address of a .spec file, or what a .json file has.
func readSpec(path string) (place, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxSpec {
		return place{}, moss.Errorf(moss.Invalid, "it is longer than %d bytes", maxSpec)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return place{}, err
	}
	at := place{address: strings.TrimSpace(string(text))}
	if filepath.Ext(path) == ".json" {
		var in struct {
			Name      string
			Addr      string
			TLSConfig *tlsConfig
		}
		if err := json.Unmarshal(text, &in); err != nil {
			return place{}, moss.Errorf(moss.Invalid, "%w", err)
		}
		at.address = in.Addr
		if in.TLSConfig != nil {
			at.tls, at.tlsConfig = true, *in.TLSConfig
		}
	}
	return at, checkAddress(at.address)
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return moss.Errorf(moss.Invalid, "its address is none: %w", err)
	}
	switch {
	case u.Scheme == "unix" && filepath.IsAbs(u.Path) && u.Host == "":
		return nil
	case slices.Contains([]string{"tcp", "http", "https"}, u.Scheme) && u.Host != "":
		return nil
	}
	return moss.Errorf(moss.Invalid, "its address %q is neither unix:///path nor tcp://host:port", address)
}

// Names are the plugins that there are, in order: nobody is asked.
func (r *Registry) Names() []string {
	var names []string
	add := func(dir string, entry fs.DirEntry, exts ...string) {
		name := entry.Name()
		if entry.IsDir() {
			for _, ext := range exts {
				if _, err := os.Stat(filepath.Join(dir, name, name+ext)); err == nil {
					names = append(names, name)
				}
			}
			return
		}
		if ext := filepath.Ext(name); slices.Contains(exts, ext) {
			names = append(names, strings.TrimSuffix(name, ext))
		}
	}
	for _, dir := range r.o.Sockets {
		for _, e := range r.entries(dir) {
			add(dir, e, ".sock")
		}
	}
	for _, dir := range r.o.Specs {
		for _, e := range r.entries(dir) {
			add(dir, e, ".spec", ".json")
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !validName.MatchString(name) })
	slices.Sort(names)
	return slices.Compact(names)
}

func (r *Registry) entries(dir string) []fs.DirEntry {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Warn("a directory of plugins cannot be read", "directory", dir, "error", err)
	}
	return entries
}
