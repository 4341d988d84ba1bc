package userns

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// SubIDRange is a run of subordinate ids a user may map, see subuid(5).
type SubIDRange struct {
	Start uint32
	Count uint32
}

func (r SubIDRange) end() uint64 { return uint64(r.Start) + uint64(r.Count) }

// Source says where subordinate ids are looked up. The zero value is the
// machine's own configuration.
type Source struct {
	SubUID    string // default /etc/subuid
	SubGID    string // default /etc/subgid
	NSSwitch  string // default /etc/nsswitch.conf; names the source in its `subid:` line
	Getsubids string // default getsubids, looked up in PATH
}

// User is whom the ids are looked up for.
type User struct {
	Name string
	UID  uint32
	GID  uint32
}

// NoSubIDsError says that a user has no subordinate ids, and how to get some.
type NoSubIDsError struct {
	User string
	File string // the file, or the name service, that has none
	Mend string // a command
}

func (e *NoSubIDsError) Error() string {
	return fmt.Sprintf("user %q has no subordinate ids in %s; give it some with: %s", e.User, e.File, e.Mend)
}

// Lookup returns the maps the calling user's namespaces get: the user itself as
// 0, then its subordinate ids from 1 on. See [Source.Lookup] for the errors.
func Lookup(ctx context.Context) (Mappings, error) {
	u, err := user.Current()
	if err != nil {
		return Mappings{}, fmt.Errorf("cannot look up the current user: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return Mappings{}, fmt.Errorf("cannot look up the current user: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return Mappings{}, fmt.Errorf("cannot look up the current user: %w", err)
	}
	return Source{}.Lookup(ctx, User{Name: u.Username, UID: uint32(uid), GID: uint32(gid)})
}

// Lookup returns the maps for a user. It fails with a [NoSubIDsError] where
// there are no ids, and otherwise where ranges are malformed, overlap each other
// or hold the user's own id: newuidmap(1) would refuse those. Fewer than
// [MinSize] ids is no error here, see [Mappings.CheckSize].
func (s Source) Lookup(ctx context.Context, u User) (Mappings, error) {
	uids, err := s.Ranges(ctx, u, false)
	if err != nil {
		return Mappings{}, err
	}
	gids, err := s.Ranges(ctx, u, true)
	if err != nil {
		return Mappings{}, err
	}
	m := Mappings{UIDs: mapFrom(u.UID, uids), GIDs: mapFrom(u.GID, gids)}
	if err := m.check(u); err != nil {
		return Mappings{}, err
	}
	return m, nil
}

// Ranges returns a user's subordinate uids, or gids.
func (s Source) Ranges(ctx context.Context, u User, gids bool) ([]SubIDRange, error) {
	file := cmp.Or(s.SubUID, "/etc/subuid")
	if gids {
		file = cmp.Or(s.SubGID, "/etc/subgid")
	}
	var (
		ranges []SubIDRange
		err    error
	)
	if s.Dynamic() {
		file = "the name service (subid in nsswitch.conf)"
		ranges, err = s.getsubids(ctx, u, gids)
	} else {
		ranges, err = readSubIDs(file, u)
	}
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 {
		return nil, &NoSubIDsError{User: u.Name, File: file, Mend: mend(u, file, s.Dynamic())}
	}
	return ranges, nil
}

func mend(u User, file string, dynamic bool) string {
	if dynamic {
		return fmt.Sprintf("getsubids %s (and ask whoever runs the directory for a range of %d)", u.Name, MinSize)
	}
	// 100000 is where useradd(8) begins; a further user's range must not meet it.
	start := uint64(100000)
	if data, err := os.ReadFile(file); err == nil {
		for line := range strings.Lines(string(data)) {
			if _, r, err := parseSubID(strings.TrimSpace(line)); err == nil && r.end() > start && r.end()+MinSize < 1<<32 {
				start = r.end()
			}
		}
	}
	return fmt.Sprintf("echo %q | sudo tee -a %s", fmt.Sprintf("%s:%d:%d", u.Name, start, MinSize), file)
}

// Dynamic tells whether ids come from a name service rather than from the files:
// nsswitch.conf has a `subid:` line that names another source than files. It is
// the rule newuidmap(1) follows.
func (s Source) Dynamic() bool {
	data, err := os.ReadFile(cmp.Or(s.NSSwitch, "/etc/nsswitch.conf"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "subid:"); ok {
			f := strings.Fields(rest)
			return len(f) > 0 && f[0] != "files"
		}
	}
	return false
}

func readSubIDs(path string, u User) ([]SubIDRange, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up the subordinate ids of %q: %w", u.Name, err)
	}
	defer f.Close()
	ranges, err := parseSubIDs(f, u)
	if err != nil {
		return nil, fmt.Errorf("cannot look up the subordinate ids of %q in %s: %w", u.Name, path, err)
	}
	return ranges, nil
}

// parseSubIDs reads subuid(5) and keeps what is the user's, by name or uid. Other
// users' lines may be broken; the user's own may not.
func parseSubIDs(r io.Reader, u User) ([]SubIDRange, error) {
	var ranges []SubIDRange
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		owner, _, _ := strings.Cut(line, ":")
		if line == "" || owner != u.Name && owner != strconv.FormatUint(uint64(u.UID), 10) {
			continue
		}
		_, rng, err := parseSubID(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if rng.Count > 0 && !slices.Contains(ranges, rng) {
			ranges = append(ranges, rng)
		}
	}
	return ranges, sc.Err()
}

func parseSubID(line string) (owner string, r SubIDRange, err error) {
	f := strings.Split(line, ":")
	if len(f) != 3 || f[0] == "" {
		return "", r, fmt.Errorf("%q is not NAME:START:COUNT", line)
	}
	r, err = parseRange(f[1], f[2])
	if err != nil {
		return "", r, fmt.Errorf("%q: %w", line, err)
	}
	return f[0], r, nil
}

func parseRange(start, count string) (SubIDRange, error) {
	a, err := strconv.ParseUint(start, 10, 32)
	if err != nil {
		return SubIDRange{}, err
	}
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil {
		return SubIDRange{}, err
	}
	if a+n > 1<<32-1 { // the last id is (uid_t)-1, which is no id
		return SubIDRange{}, fmt.Errorf("the range goes beyond the last id %d", uint32(1<<32-2))
	}
	return SubIDRange{Start: uint32(a), Count: uint32(n)}, nil
}

func (s Source) getsubids(ctx context.Context, u User, gids bool) ([]SubIDRange, error) {
	exe, err := exec.LookPath(cmp.Or(s.Getsubids, "getsubids"))
	if err != nil {
		return nil, fmt.Errorf("cannot look up the subordinate ids of %q: nsswitch.conf wants a name service, but "+
			"getsubids is missing; install it with: sudo apt install uidmap: %w", u.Name, err)
	}
	args := []string{u.Name}
	if gids {
		args = []string{"-g", u.Name}
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		// "Error fetching ranges" with status 1 is its way to say: none.
		if ee := (*exec.ExitError)(nil); errors.As(err, &ee) && ee.ExitCode() == 1 {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot look up the subordinate ids of %q: %s: %w: %s", u.Name, cmd, err,
			strings.TrimSpace(stderr.String()))
	}
	ranges, err := parseGetsubids(bytes.NewReader(out))
	if err != nil {
		return nil, fmt.Errorf("cannot look up the subordinate ids of %q: %s: %w", u.Name, cmd, err)
	}
	return ranges, nil
}

// parseGetsubids reads getsubids(1): lines like `0: alice 100000 65536`.
func parseGetsubids(r io.Reader) ([]SubIDRange, error) {
	var ranges []SubIDRange
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" {
			continue
		}
		_, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) != 3 {
			return nil, fmt.Errorf("cannot parse %q", line)
		}
		rng, err := parseRange(f[1], f[2])
		if err != nil {
			return nil, fmt.Errorf("cannot parse %q: %w", line, err)
		}
		if rng.Count > 0 && !slices.Contains(ranges, rng) {
			ranges = append(ranges, rng)
		}
	}
	return ranges, sc.Err()
}

// mapFrom lays the user's own id at 0 and the ranges behind it, in their order.
func mapFrom(own uint32, ranges []SubIDRange) []IDMap {
	maps := []IDMap{{ContainerID: 0, HostID: own, Size: 1}}
	next := uint64(1)
	for _, r := range ranges {
		if next+uint64(r.Count) > 1<<32-1 {
			break // no id inside is left for it
		}
		maps = append(maps, IDMap{ContainerID: uint32(next), HostID: r.Start, Size: r.Count})
		next += uint64(r.Count)
	}
	return maps
}

// check refuses maps the kernel refuses: host ids that occur twice.
func (m Mappings) check(u User) error {
	for _, k := range []struct {
		maps []IDMap
		file string
	}{{m.UIDs, "/etc/subuid"}, {m.GIDs, "/etc/subgid"}} {
		sorted := slices.Clone(k.maps)
		slices.SortFunc(sorted, func(a, b IDMap) int { return cmp.Compare(a.HostID, b.HostID) })
		for i := 1; i < len(sorted); i++ {
			a, b := sorted[i-1], sorted[i]
			if uint64(a.HostID)+uint64(a.Size) > uint64(b.HostID) {
				return fmt.Errorf("the id ranges %d-%d and %d-%d of user %q overlap; correct them with: sudo editor %s",
					a.HostID, uint64(a.HostID)+uint64(a.Size)-1, b.HostID, uint64(b.HostID)+uint64(b.Size)-1, u.Name, k.file)
			}
		}
	}
	return nil
}

// CheckSize says, where it is so, that there are fewer than [MinSize] ids: images
// with files of higher owners will not unpack.
func (m Mappings) CheckSize() error {
	for _, k := range []struct {
		maps       []IDMap
		what, file string
	}{{m.UIDs, "uids", "/etc/subuid"}, {m.GIDs, "gids", "/etc/subgid"}} {
		if n := Total(k.maps); n < MinSize {
			return fmt.Errorf("only %d %s are mapped, images need %d; widen the range with: sudo editor %s", n, k.what, MinSize, k.file)
		}
	}
	return nil
}
