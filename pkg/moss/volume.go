package moss

import "time"

// VolumeEvent is the type of the events of volumes.
const VolumeEvent EventType = "volume"

// LabelAnonymous marks, as docker does, a volume that nobody has named.
const LabelAnonymous = "com.docker.volume.anonymous"

// LocalDriver is the driver of volumes that are directories of the engine's own.
const LocalDriver = "local"

// Volume is a directory that outlives the containers that use it.
type Volume struct {
	Name    string
	Driver  string
	Options map[string]string // of the driver: type, o, device
	Labels  map[string]string
	Created time.Time

	Scope string `json:",omitempty"` // "" or "local", or "global": other machines have it too

	// Path is where its files are, in the engine's mount namespace; "" where a
	// plugin tells only when it mounts.
	Path string `json:"-"`
	// Status is what a plugin tells of it.
	Status map[string]any `json:"-"`
}

// Anonymous says that nobody has named the volume.
func (v Volume) Anonymous() bool { _, ok := v.Labels[LabelAnonymous]; return ok }

// VolumeRequest is a volume to be made.
type VolumeRequest struct {
	Name    string            `json:",omitzero"` // "" asks for a random one
	Driver  string            `json:",omitzero"` // "" means local
	Options map[string]string `json:",omitzero"`
	Labels  map[string]string `json:",omitzero"`
}

// VolumeFilter chooses volumes. An empty list in a field means any.
type VolumeFilter struct {
	Names    []string // parts of names
	Drivers  []string
	Labels   []string // key or key=value; all must hold
	NotLabel []string // none may hold
	Dangling *bool    // used by no container, or by one
	All      bool     // a prune takes named ones too
}

// VolumeUsage is what a volume takes on the disk.
type VolumeUsage struct {
	Volume     Volume
	Size       int64
	Containers int // that have it
}

// VolumesPruned is what a prune of volumes did.
type VolumesPruned struct {
	Removed   []string
	Reclaimed int64 // bytes
}

// VolumesFrom names a container whose mounts another one takes over.
type VolumesFrom struct {
	Container string `json:",omitzero"`
	ReadOnly  bool   `json:",omitzero"`
	Mode      string `json:",omitzero"` // as the user wrote it
}
