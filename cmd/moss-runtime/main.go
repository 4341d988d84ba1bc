// Command moss-runtime is moss's OCI runtime: runc's libcontainer behind the
// OCI runtime command line (create, start, run, state, kill, delete, exec, …).
//
// It is the ExecStart= of every container's unit, and a short-lived helper of
// mossd for everything that follows. It runs inside a user namespace, as uid 0
// there, and leaves no process of its own behind.
//
// The debug settings keep the Go runtime from looking for the processor limit of
// its cgroup again and again, which matters to nothing here. Once, at the start,
// it reads the mount table and the cgroup's files all the same (Go 1.26).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"
	"runtime/debug"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cli"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/forward"
	// Holds the entry of the container's init, which must not wait for main.
	_ "github.com/moss-containers/moss/cmd/moss-runtime/internal/reexec"

	// The init of containers that ask for one; its constructor comes before all others.
	_ "github.com/moss-containers/moss/cmd/moss-runtime/internal/initd"

	// Joins the engine's namespaces where the unit's environment asks for it.
	_ "github.com/moss-containers/moss/userns"
)

// version is set at link time.
var version = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "forward" {
		os.Exit(forward.Main(os.Args[2:]))
	}
	// The process lives for milliseconds: a collection costs more than it frees.
	debug.SetGCPercent(-1)
	os.Exit(cli.Main(version, os.Args))
}
