package storage

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeRoom gives away the room that pkg/image keeps for removals, where so
// little is left that a start could not write: an engine that does not start
// can remove nothing.
func makeRoom(root string) {
	const little = 4 << 20
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil || st.Bavail*uint64(st.Bsize) >= little { //nolint:gosec // no file system has blocks of less than nothing
		return
	}
	_ = os.Remove(filepath.Join(root, "reserve")) // none is kept on a small disk
}
