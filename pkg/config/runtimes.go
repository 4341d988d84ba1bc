package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
)

// Runtime is an OCI runtime that containers can choose, as docker's setting has it.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs"`
	// Type and Options are for containerd's shims: there are none.
	Type    string         `json:"runtimeType"`
	Options map[string]any `json:"options"`
}

// Compiled when it is asked for: the client is linked with it, and starts often.
var runtimeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`) })

func (c *Config) validateRuntimes() error {
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		r := c.Runtimes[name]
		var why error
		switch {
		case !runtimeName().MatchString(name):
			why = fmt.Errorf("%q is no name of a runtime", name)
		case name == "moss-runtime":
			why = errors.New("runtime name 'moss-runtime' is reserved")
		case r.Type != "" || len(r.Options) > 0:
			why = fmt.Errorf("runtime %q: runtimeType and options are for containerd's shims, and moss has none: give path and runtimeArgs", name)
		case r.Path == "":
			why = fmt.Errorf("runtime %q: either a runtimeType or a path must be configured", name)
		}
		if why != nil {
			return &Error{Key: "runtimes", Err: why}
		}
	}
	return nil
}
