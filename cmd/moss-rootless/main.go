// Command moss-rootless holds the engine's namespaces: it is the main process of
// moss-rootless.service. `mossd rootless` runs it. It is a program of its own
// because its two resident processes must be small, and the daemon is not. Where
// the network driver is gvisor-tap-vsock it replaces itself by moss-gvisor. As
// `moss-rootless service` it stands in for systemd's user manager, for `moss
// system service`.
package main

import (
	"fmt"
	"os"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless/holder"
)

func main() {
	handled, err := holder.Init(nil)
	switch {
	case handled:
	case len(os.Args) > 1 && os.Args[1] == "service":
		err = service(os.Args[2:])
	default:
		err = holder.Command(os.Args[1:], nil)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", names.Rootless, err)
		os.Exit(1)
	}
}
