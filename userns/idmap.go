package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// IDMap is one line of a user namespace's uid_map or gid_map: Size ids that
// begin with ContainerID inside are those that begin with HostID outside.
type IDMap struct {
	ContainerID uint32
	HostID      uint32
	Size        uint32
}

// Mappings are the id maps of a user namespace.
type Mappings struct {
	UIDs []IDMap
	GIDs []IDMap
}

// MinSize is the number of ids below which ordinary images do not unpack: they
// use ids up to 65534 (nobody).
const MinSize = 65536

// ErrUnmapped is in the chain of errors about an id that no map covers.
var ErrUnmapped = errors.New("id is not mapped")

// ToHost translates an id inside the namespace to the one outside it. The error
// wraps [ErrUnmapped].
func ToHost(maps []IDMap, id uint32) (uint32, error) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), nil
		}
	}
	return 0, fmt.Errorf("id %d inside the user namespace: %w", id, ErrUnmapped)
}

// ToContainer translates an id outside the namespace to the one inside it. The
// error wraps [ErrUnmapped].
func ToContainer(maps []IDMap, id uint32) (uint32, error) {
	for _, m := range maps {
		if id >= m.HostID && id-m.HostID < m.Size {
			return m.ContainerID + (id - m.HostID), nil
		}
	}
	return 0, fmt.Errorf("id %d outside the user namespace: %w", id, ErrUnmapped)
}

// Total is the number of ids the maps cover.
func Total(maps []IDMap) uint64 {
	var n uint64
	for _, m := range maps {
		n += uint64(m.Size)
	}
	return n
}

// Current reads the maps of the calling process's user namespace.
func Current() (Mappings, error) {
	uids, err := readMap("/proc/self/uid_map")
	if err != nil {
		return Mappings{}, err
	}
	gids, err := readMap("/proc/self/gid_map")
	if err != nil {
		return Mappings{}, err
	}
	return Mappings{UIDs: uids, GIDs: gids}, nil
}

// OuterUID is the calling process's effective uid as the namespace outside sees
// it: what D-Bus EXTERNAL and SO_PEERCRED of a host process speak of. Outside
// any user namespace it is the effective uid itself.
func OuterUID() (uint32, error) {
	uids, err := readMap("/proc/self/uid_map")
	if err != nil {
		return 0, err
	}
	uid, err := ToHost(uids, uint32(os.Geteuid()))
	if err != nil {
		return 0, fmt.Errorf("cannot tell the uid outside the user namespace: %w", err)
	}
	return uid, nil
}

func readMap(path string) ([]IDMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the id map: %w", err)
	}
	defer f.Close()
	maps, err := parseMap(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the id map %s: %w", path, err)
	}
	return maps, nil
}

// parseMap reads the kernel's uid_map format: three numbers a line.
func parseMap(r io.Reader) ([]IDMap, error) {
	var maps []IDMap
	for sc := bufio.NewScanner(r); ; {
		if !sc.Scan() {
			return maps, sc.Err()
		}
		f := strings.Fields(sc.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("line %q does not have three numbers", sc.Text())
		}
		var n [3]uint32
		for i, s := range f {
			v, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", sc.Text(), err)
			}
			n[i] = uint32(v)
		}
		maps = append(maps, IDMap{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
}

// isInitial tells whether these maps are those of the initial user namespace:
// every id is itself.
func isInitial(maps []IDMap) bool {
	return len(maps) == 1 && maps[0] == IDMap{0, 0, 1<<32 - 1}
}

// CheckNotRoot refuses the machine's root user (uid 0 outside any user
// namespace) with one sentence on what to do instead. uid 0 inside a user
// namespace is an ordinary user and passes.
func CheckNotRoot() error {
	uids, err := readMap("/proc/self/uid_map")
	if err != nil {
		return err
	}
	return checkNotRoot(os.Geteuid(), uids)
}

func checkNotRoot(euid int, uids []IDMap) error {
	if euid != 0 || !isInitial(uids) {
		return nil
	}
	return ErrRoot
}

// ErrRoot is what [CheckNotRoot] returns to the machine's root user.
var ErrRoot = errors.New("moss does not run as root: log in as an ordinary user (ssh, a login screen or " +
	"`machinectl shell USER@`, not su or sudo) and run `moss setup` there")
