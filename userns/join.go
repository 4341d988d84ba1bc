package userns

/*
extern int moss_joined(void);
*/
import "C"

import "os"

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
