package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// ids are the owners in a layer.
type ids struct{ uids, gids map[uint32]struct{} }

func newIDs() ids { return ids{map[uint32]struct{}{}, map[uint32]struct{}{}} }

// of returns the owners of an entry. -1 means "as it is" to the kernel, and
// would be nobody's.
func (i ids) of(h *tar.Header) (uid, gid uint32, err error) {
	for _, id := range []int{h.Uid, h.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return 0, 0, moss.Errorf(moss.Invalid, "%q has the owner %d, which is no id", h.Name, id)
		}
	}
	uid, gid = uint32(h.Uid), uint32(h.Gid) //nolint:gosec // just looked at
	i.uids[uid], i.gids[gid] = struct{}{}, struct{}{}
	return uid, gid, nil
}

func sorted(m map[uint32]struct{}) []uint32 { return slices.Sorted(maps.Keys(m)) }

// refused explains why a file cannot get its owner.
func (i ids) refused(name string, m *meta, err error) error {
	if !errors.Is(err, unix.EINVAL) {
		return failed(name, err)
	}
	what, id, file := "user", m.uid, "uid"
	if mapped("/proc/self/uid_map", m.uid) {
		what, id, file = "group", m.gid, "gid"
	}
	return moss.Errorf(moss.Unavailable, "%q belongs to the %s id %d, which is beyond the subordinate ids of this user: "+
		"widen the range in /etc/sub%s (sudo usermod --add-sub%ss FIRST-LAST USER; %d ids are needed), then restart moss-rootless.service, which stops the containers; `moss doctor` tells what there is: %w",
		name, what, id, file, file, uint64(id)+1, err)
}

// mapped says whether a user namespace has an id, by one of its maps.
func mapped(file string, id uint32) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		var first, outer, n uint64
		if _, err := fmt.Sscan(line, &first, &outer, &n); err == nil && uint64(id) >= first && uint64(id) < first+n {
			return true
		}
	}
	return false
}

// umask reads the process's, which can otherwise not be had without a change.
func umask() (uint32, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32)
			return uint32(mask), err
		}
	}
	return 0o777, nil // every mode is set
}

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
