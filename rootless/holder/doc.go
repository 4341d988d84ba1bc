// Package holder keeps the engine's namespaces: a user and a mount namespace and
// a detached network namespace, with rootlesskit as a library. It is the heavy
// side of package rootless and is linked by moss-rootless and moss-gvisor only.
//
// The processes of one holder:
//
//	parent   this program: rootlesskit's parent, ports on the host, ports API
//	child    /proc/self/exe again, in the namespaces: dials published ports
//	payload  /proc/self/exe a third time, stopped in a C constructor: it waits
//	network  pasta or slirp4netns; gvisor-tap-vsock runs inside parent and child,
//	         which are moss-gvisor then
//
// A main program calls [Init] first: it is how the second process is told from
// the first.
package holder
