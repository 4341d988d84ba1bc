// Package userns knows the user namespace the engine lives in: which
// subordinate ids a user may map (subuid(5), subgid(5), getsubids(1)), how ids
// inside and outside translate (user_namespaces(7)), and how a process of ours
// enters the holder's namespaces before the Go runtime has threads.
//
// A blank import is enough for the join: a C constructor looks at the
// environment variable named by [JoinEnv] and, where it is set, moves the
// process into the user and mount namespace of the holder whose state directory
// it names. The network and pid namespace stay as they are.
package userns
