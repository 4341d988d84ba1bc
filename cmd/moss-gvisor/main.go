// Command moss-gvisor is moss-rootless with the network driver gvisor-tap-vsock:
// moss-rootless replaces itself by it where that driver is chosen. It is a program
// of its own because the driver doubles the memory of the holder.
package main

import (
	"fmt"
	"os"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless/holder"
	"github.com/moss-containers/moss/rootless/holder/gvisor"
)

func main() {
	stack := &holder.Stack{Parent: gvisor.Parent, Child: gvisor.Child}
	handled, err := holder.Init(stack)
	if !handled {
		err = holder.Command(os.Args[1:], stack)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", names.Gvisor, err)
		os.Exit(1)
	}
}
