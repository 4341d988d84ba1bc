package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// autoSize is how many ids a container gets of --userns auto, as with podman.
const autoSize = 1024

// mapIDs settles the user namespace of a new container: its map stands in its
// record. Slices of auto are counted from the records, so that they are free
// again when the container is gone, whatever crashed meanwhile. done gives a
// slice free that has come into no record; it is never nil.
func (s Containers) mapIDs(rec *moss.Container, asked moss.ContainerConfig) (done func(), err error) {
	u, have := rec.Host.Userns, s.opts.IDs
	done = func() {}
	switch u.Mode {
	case moss.UsernsHost:
		return done, nil
	case moss.UsernsKeepID:
		uid, gid := have.OwnerUID, have.OwnerGID
		if u.UID != nil {
			uid = *u.UID
		}
		if u.GID != nil {
			gid = *u.GID
		}
		rec.IDMaps = &moss.IDMaps{UIDs: keepID(uid, have.UIDs), GIDs: keepID(gid, have.GIDs)}
		if asked.User == "" {
			rec.Config.User = fmt.Sprintf("%d:%d", uid, gid)
		}
	case moss.UsernsNoMap:
		rec.IDMaps = &moss.IDMaps{UIDs: []moss.IDMap{{Engine: 1, Size: have.UIDs - 1}}, GIDs: []moss.IDMap{{Engine: 1, Size: have.GIDs - 1}}}
	case moss.UsernsMap:
		rec.IDMaps = &u.Maps
	case moss.UsernsAuto:
		size := u.Size
		if size == 0 {
			size = autoSize
		}
		start, err := s.takeSlice(rec.ID, size)
		if err != nil {
			return done, err
		}
		done = func() { s.dropSlice(rec.ID) }
		slice := []moss.IDMap{{Engine: start, Size: size}}
		rec.IDMaps = &moss.IDMaps{UIDs: slice, GIDs: slice}
	default:
		return done, moss.Errorf(moss.Invalid, "invalid userns mode: %s", u.Mode)
	}
	for what, m := range map[string][]moss.IDMap{"user": rec.IDMaps.UIDs, "group": rec.IDMaps.GIDs} {
		n := have.UIDs
		if what == "group" {
			n = have.GIDs
		}
		if err := checkMap(m, n); err != nil {
			done()
			return func() {}, moss.Errorf(moss.Invalid, "cannot use the user namespace %s: its %s ids: %w", rec.Host.UsernsMode, what, err)
		}
	}
	if why := cannotShare(rec); why != "" {
		done()
		return func() {}, moss.Errorf(moss.NotImplemented, "a container with a user namespace of its own cannot %s: leave out one of the two", why)
	}
	return done, nil
}

// keepID makes the engine's 0, who is the user, another id in the container; the
// ids below that one move up.
func keepID(id, have uint32) []moss.IDMap {
	if id >= have {
		return []moss.IDMap{{Container: id, Size: 1}} // checkMap says that there is no 0
	}
	all := []moss.IDMap{{Container: 0, Engine: 1, Size: id}, {Container: id, Engine: 0, Size: 1}, {Container: id + 1, Engine: id + 1, Size: have - id - 1}}
	return slices.DeleteFunc(all, func(m moss.IDMap) bool { return m.Size == 0 })
}

// checkMap looks for what the kernel would refuse without a reason.
func checkMap(m []moss.IDMap, have uint32) error {
	for i, a := range m {
		if a.Size == 0 || uint64(a.Engine)+uint64(a.Size) > uint64(have) || uint64(a.Container)+uint64(a.Size) > 1<<32-1 {
			return fmt.Errorf("%d:%d:%d goes beyond the engine's ids, 0 to %d", a.Container, a.Engine, a.Size, have-1)
		}
		for _, b := range m[:i] {
			if meet(a.Container, a.Size, b.Container, b.Size) || meet(a.Engine, a.Size, b.Engine, b.Size) {
				return fmt.Errorf("%d:%d:%d and %d:%d:%d overlap", b.Container, b.Engine, b.Size, a.Container, a.Engine, a.Size)
			}
		}
	}
	if _, ok := moss.ToEngine(m, 0); !ok {
		return fmt.Errorf("none of the engine's ids, 0 to %d, is the container's 0", have-1)
	}
	return nil
}

func meet(a, sizeA, b, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// cannotShare says what a container in a user namespace of its own cannot do:
// namespaces of another container are not its own's to enter.
func cannotShare(rec *moss.Container) string {
	for _, mode := range []struct{ flag, value string }{{"--ipc", rec.Host.IpcMode}, {"--pid", rec.Host.PidMode}} {
		if strings.HasPrefix(mode.value, "container:") {
			return "share a namespace of another container (" + mode.flag + " container:…)"
		}
	}
	return ""
}

// takeSlice finds ids that no other container of auto has, from the top, where
// images' own ids are not; a size that comes again gets what it had, and with it
// the image's layer that was made for those.
func (e *Engine) takeSlice(id moss.ContainerID, size uint32) (start uint32, err error) {
	var taken []moss.IDMap
	for _, c := range e.all() {
		if rec := c.record(); rec.Host.Userns.Mode == moss.UsernsAuto && rec.IDMaps != nil {
			taken = append(taken, rec.IDMaps.UIDs...)
		}
	}
	have := min(e.opts.IDs.UIDs, e.opts.IDs.GIDs)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.slices {
		taken = append(taken, m)
	}
	slices.SortFunc(taken, func(a, b moss.IDMap) int { return int(int64(b.Engine) - int64(a.Engine)) }) // the highest first
	end := uint64(have)
	for _, t := range taken {
		if uint64(t.Engine)+uint64(t.Size)+uint64(size) <= end {
			break
		}
		end = min(end, uint64(t.Engine))
	}
	if end < uint64(size)+1 { // 0 is the user
		return 0, moss.Errorf(moss.Conflict, "there are no %d ids left that no other container of --userns auto has: remove one of those, ask for less with auto:size=…, or give the user more ids in /etc/subuid and /etc/subgid", size)
	}
	m := moss.IDMap{Engine: uint32(end) - size, Size: size}
	if e.slices == nil {
		e.slices = make(map[moss.ContainerID]moss.IDMap)
	}
	e.slices[id] = m
	return m.Engine, nil
}

func (e *Engine) dropSlice(id moss.ContainerID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.slices, id)
}
