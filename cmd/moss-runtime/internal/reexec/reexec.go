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
	"os/signal"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/filter"

	// The C constructor which clones and joins namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
)

func init() {
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		heedSignals()
		filter.Take()
		libcontainer.Init()
	}
}

// heedSignals ends init on a signal that comes before the container's program is
// there, with the code that a shell would give: a stop right after a start. Left
// to itself Go ends the first process of a namespace with 2, and on SIGQUIT writes
// its goroutines into the container's log. The program gets its own dispositions.
func heedSignals() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		if sig, ok := (<-ch).(syscall.Signal); ok {
			os.Exit(128 + int(sig))
		}
	}()
}
