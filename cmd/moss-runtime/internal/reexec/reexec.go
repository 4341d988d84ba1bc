// Package reexec is the first half of a container: libcontainer starts this
// same binary again as `moss-runtime init`, with its instructions in pipes
// named by _LIBCONTAINER_* variables. The C constructor of nsenter has entered
// the namespaces by then; what is left happens here, in a package init, so
// that the command line's packages cost the container nothing.
//
// libcontainer gives that child an environment of its own, so the variables of
// the namespace join (package userns) never reach it.
package reexec

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/filter"

	// The C constructor which clones and joins namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
)

func init() {
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		filter.Take()
		libcontainer.Init()
	}
}
