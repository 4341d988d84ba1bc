// Package rootless is the light side of the namespace holder: where its state
// directory is, what it says about itself, and the client that publishes ports
// through it. It links neither a network stack nor rootlesskit's drivers, so the
// daemon stays small; those live in rootless/holder, which only the binaries
// moss-rootless and moss-gvisor link.
//
// The state directory (R/rootless):
//
//	lock       held (flock) by the holder while it lives
//	child_pid  the process whose user and mount namespaces to join, decimal
//	api.sock   rootlesskit's HTTP API: ports
//	keep.sock  files of the daemon's while that is away: [Keeper]
//	netns      the network namespace; a bind mount in the holder's mount namespace
//	info.json  [Info], written last: who can read it finds everything else there
//
// What begins with a dot, and resolv.conf and hosts, are rootlesskit's own.
package rootless
