// Package network attaches containers to networks and publishes their ports.
//
// Everything happens in the holder's detached network namespace: the bridge
// moss0, the containers' veth ends, the packet filter. The engine itself stays
// in the host's network namespace; what has to be made in another one is made
// by threads that enter it and never come back (a user's process may leave the
// host's network namespace and cannot return), while the netlink sockets they
// open serve every goroutine.
//
// "bridge", "host" and "none" are always there; what users make are bridges more.
// A container on bridges has a namespace of its own, bound at R/netns/<container
// id>, with eth0 and further links in it; the other end of the first one's pair is
// named ve<12 hex of the container id>. On users' networks a [resolver] has its
// sockets in the container's namespace.
//
// Ports are published by a [PortDriver], which listens in the host's namespace
// and connects to the container from the holder's.
package network
