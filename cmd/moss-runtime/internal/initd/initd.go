// Package initd is the init of containers that ask for one (docker's --init):
// the program is this same binary, mounted at /sbin/docker-init and known by
// that name in argv[0]. All of it is a C constructor, which does not return
// there; the Go runtime is never started.
package initd

import "C"
