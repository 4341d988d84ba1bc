package process

import (
	"os"
	"strconv"
	"strings"
)

// keysSpare is how many keys must be left of the user's quota for a container
// to get a session keyring of its own: one for it and some for its neighbours
// that are being created at the same time.
const keysSpare = 16

// KeyringsUsedUp tells whether the user's key quota (200 by default, shared by
// all the user's containers) is about to be exhausted. The kernel would then
// refuse a new session keyring, and the container with it; a container without
// one of its own still starts. See keyrings(7), /proc/key-users.
func KeyringsUsedUp() bool {
	data, err := os.ReadFile("/proc/key-users")
	return err == nil && keyringsUsedUp(string(data), os.Geteuid())
}

// keyringsUsedUp looks at uid's line, e.g. "0: 5 4/4 2/200 60/20000": the
// fourth field is the number of keys charged and the most there may be.
func keyringsUsedUp(keyUsers string, uid int) bool {
	for line := range strings.Lines(keyUsers) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != strconv.Itoa(uid)+":" {
			continue
		}
		used, most, _ := strings.Cut(f[3], "/")
		u, err1 := strconv.Atoi(used)
		m, err2 := strconv.Atoi(most)
		return err1 == nil && err2 == nil && m-u < keysSpare
	}
	return false
}
