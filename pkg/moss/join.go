package moss

import "strings"

const joinPrefix = "container:"

// JoinMode is the mode of a namespace that is another container's.
func JoinMode(id ContainerID) string { return joinPrefix + string(id) }

// Joins says whether a namespace mode names another container, and which; in a
// record that is its id.
func Joins(mode string) (ref string, ok bool) { return strings.CutPrefix(mode, joinPrefix) }

// Joins says whether a container lives in another's network, and whose.
func (m NetworkMode) Joins() (ref string, ok bool) { return Joins(string(m)) }

// Join is a running container whose namespace another one shares.
type Join struct {
	ID  ContainerID
	PID int // its process; 0 for none
}

// Device is a device node of the host that a container gets.
type Device struct {
	Host        string `json:",omitzero"` // a node, or a directory of them
	Container   string `json:",omitzero"`
	Permissions string `json:",omitzero"` // as the user wrote them; a user cannot have fewer than "rw"
}

// DeviceLimitKind is what a limit of a block device limits.
type DeviceLimitKind string

// The limits of block devices.
const (
	DeviceWeight    DeviceLimitKind = "weight"     // 10 to 1000; IODeviceWeight
	DeviceReadBps   DeviceLimitKind = "read-bps"   // bytes a second; IOReadBandwidthMax
	DeviceWriteBps  DeviceLimitKind = "write-bps"  // IOWriteBandwidthMax
	DeviceReadIOps  DeviceLimitKind = "read-iops"  // operations a second; IOReadIOPSMax
	DeviceWriteIOps DeviceLimitKind = "write-iops" // IOWriteIOPSMax
)

// DeviceLimit limits what a container does with one block device of the host.
type DeviceLimit struct {
	Device string          `json:",omitzero"` // the node's path
	Kind   DeviceLimitKind `json:",omitzero"`
	Value  uint64          `json:",omitzero"`
}

// RuntimePath is an OCI runtime that can be chosen.
type RuntimePath struct {
	Path string
	Args []string // its own flags, before the command
}
