package moss

import (
	"io/fs"
	"time"
)

// View is how a container's files are looked at: through its mounts.
type View struct {
	Container ContainerID
	Rootfs    Mount
	PID       int          // of its process, whose mounts are then the container's; 0 without one
	Mounts    []MountPoint // the container's own, where no process has them
	ReadOnly  bool         // the root file system is not to be written to
}

// PathStat is what is known of one path in a container.
type PathStat struct {
	Name       string // last element of the path as it was asked for
	Size       int64
	Mode       fs.FileMode
	ModTime    time.Time
	LinkTarget string // of a symbolic link: where it leads to in the end, in the container
}

// UnpackOptions say how to write an archive into a container.
type UnpackOptions struct {
	// KeepKinds makes it an error to replace a directory by something else, or the other way round.
	KeepKinds bool
	// Owner is user[:group], looked up in the container, for all that is written; "" leaves it to the archive.
	Owner string
}

// ChangeKind says what became of a file; the numbers are docker's.
type ChangeKind uint8

// The kinds of change.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one path that a container changed in its image's files.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}
