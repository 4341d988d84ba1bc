package userns

/*
extern int moss_joined(void);
*/
import "C"

import "os"

// JoinEnv is the environment variable that makes a process that links this
// package join the holder's namespaces at its start. Its value is the holder's
// state directory. The variable is gone afterwards, in C and in Go, so that
// children do not try again.
const JoinEnv = "_MOSS_JOIN"

// Joined tells whether this process was moved into the holder's user and mount
// namespaces before the Go runtime started.
func Joined() bool { return C.moss_joined() != 0 }

func init() {
	// The constructor takes it from the C environment, in place; this is for a
	// C library that copies.
	if Joined() {
		os.Unsetenv(JoinEnv)
	}
}
