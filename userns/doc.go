// Package userns knows the user namespace the engine lives in: which
// subordinate ids a user may map (subuid(5), subgid(5), getsubids(1)), how ids
// inside and outside translate (user_namespaces(7)), and how a process of ours
// enters the holder's namespaces before the Go runtime has threads.
//
// A blank import is enough for the join: a C constructor looks at the
// environment variable named by [JoinEnv] and, where it is set, moves the
// process into the user and mount namespace of the holder whose state directory
// it names. The network and pid namespace stay as they are.
//
// A program built without cgo, as moss is, has the rest of the package and no join.
package userns

// JoinEnv is the environment variable that makes a process that links this
// package join the holder's namespaces at its start. Its value is the holder's
// state directory. The variable is gone afterwards, in C and in Go, so that
// children do not try again.
const JoinEnv = "_MOSS_JOIN"
