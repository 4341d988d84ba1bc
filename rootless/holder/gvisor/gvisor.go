// Package gvisor is the network driver gvisor-tap-vsock: a network stack within the
// holder's two processes. Its tables and its code take as much memory as all else of
// the holder, used or not, so it is linked by the program moss-gvisor only.
package gvisor

import (
	"io"
	"net"

	"github.com/rootless-containers/rootlesskit/v3/pkg/network"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network/gvisortapvsock"
)

// Parent makes the host's side.
func Parent(log io.Writer, mtu int, subnet *net.IPNet, hostLoopback bool) (network.ParentDriver, error) {
	dropPacketTables()
	const tap = "" // the driver's own default, tap0
	return gvisortapvsock.NewParentDriver(log, mtu, subnet, tap, !hostLoopback, false)
}

// Child makes the namespaces' side.
func Child() network.ChildDriver {
	dropPacketTables()
	return gvisortapvsock.NewChildDriver()
}
