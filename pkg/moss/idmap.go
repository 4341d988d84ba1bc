package moss

import "slices"

// IDMap is a run of ids of a container and the engine's ids that they are.
type IDMap struct {
	Container, Engine, Size uint32 `json:",omitzero"`
}

// IDMaps are the maps of a container's own user namespace, which is inside the
// engine's.
type IDMaps struct {
	UIDs, GIDs []IDMap `json:",omitzero"`
}

// ToEngine translates a container's id; false where the map has none.
func ToEngine(m []IDMap, id uint32) (uint32, bool) {
	i := slices.IndexFunc(m, func(r IDMap) bool { return id >= r.Container && id-r.Container < r.Size })
	if i < 0 {
		return 0, false
	}
	return m[i].Engine + (id - m[i].Container), true
}

// ToContainer translates the engine's id; false where the map has none.
func ToContainer(m []IDMap, id uint32) (uint32, bool) {
	i := slices.IndexFunc(m, func(r IDMap) bool { return id >= r.Engine && id-r.Engine < r.Size })
	if i < 0 {
		return 0, false
	}
	return m[i].Container + (id - m[i].Engine), true
}

// IDsFromZero is how many ids a container has from 0 on without a gap.
func IDsFromZero(m []IDMap) uint32 {
	sorted := slices.Clone(m)
	slices.SortFunc(sorted, func(a, b IDMap) int { return int(int64(a.Container) - int64(b.Container)) })
	var n uint32
	for _, r := range sorted {
		if r.Container != n {
			break
		}
		n += r.Size
	}
	return n
}

// UsernsMode is a kind of user namespace of a container.
type UsernsMode string

// The kinds. A container without one is in the engine's.
const (
	UsernsHost   UsernsMode = ""
	UsernsKeepID UsernsMode = "keep-id" // the user is itself in the container
	UsernsAuto   UsernsMode = "auto"    // ids that no other such container has
	UsernsNoMap  UsernsMode = "nomap"   // all ids but the user's own
	UsernsMap    UsernsMode = "map"     // as the user says
)

// Userns asks for a user namespace.
type Userns struct {
	Mode     UsernsMode `json:",omitzero"`
	UID, GID *uint32    `json:",omitzero"` // of keep-id: who the user is in the container; nil for the same as outside
	Size     uint32     `json:",omitzero"` // of auto; 0 for the usual
	Maps     IDMaps     `json:",omitzero"` // of map
}

// UsernsLabel is the label that asks for a user namespace, by which a client can
// that does not let a user write anything but host for it.
const UsernsLabel = "moss.userns"
