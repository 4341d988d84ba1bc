// Package forward passes connections on to a container that the first of them
// starts: it is the service of the socket unit that holds the container's ports
// (docs/adr/0013-the-first-connection-starts-a-container.md). It runs in the
// engine's network namespace, with sockets that listen in the host's, asks the
// engine to start the container and, after a time without connections, to stop it.
//
// A container whose program takes connections itself (sd_listen_fds(3)) gets the
// sockets: the engine's runtime asks for them at a socket of the same unit, when
// it creates the container.
//
// Arguments: the engine's socket, the network namespace, the container's id, the
// idle time (0 for never) or "listen-fds", and the container's port of each socket passed.
package forward
