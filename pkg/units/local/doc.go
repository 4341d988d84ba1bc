// Package local runs containers where no user manager of systemd is there: in a
// container, in WSL 1, in CI. A [Server] is then their manager, see
// docs/adr/0015: a small process that outlives the daemon, the subreaper of
// everything it starts, which keeps the containers' exit records until they are
// collected and the daemon's descriptors while the daemon is away. A [Client] is
// the daemon's side; it implements the engine's ports as pkg/units does.
//
// The two speak messages of JSON in packets of a unix socket: a call is a
// connection with one message and one answer, a watch a connection that stays.
// Every change of a unit has a number; who has been told of it has been told of
// all before.
package local
