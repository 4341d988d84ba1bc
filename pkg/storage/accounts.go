package storage

import (
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxAccounts bounds what is read of a container's passwd and group files, in bytes.
const maxAccounts = 4 << 20

// owner is a user and a group by their numbers.
type owner struct{ uid, gid int }

// lookUp finds the ids of user[:group] in the container's files. A number needs
// not be in them; its group is then root, as with docker run.
func (v *view) lookUp(whose string) (*owner, error) {
	var found owner
	name, group, _ := strings.Cut(whose, ":")
	if name != "" {
		id, isID := number(name)
		users, err := v.users(func(u user.User) bool { return isID && u.Uid == id || !isID && u.Name == name })
		switch {
		case err != nil:
			return nil, err
		case len(users) > 0:
			found = owner{users[0].Uid, users[0].Gid}
		case isID:
			found.uid = id
		default:
			return nil, moss.Errorf(moss.Invalid, "failed to look up user %q in container: no matching entries in passwd file", name)
		}
	}
	if group == "" {
		return &found, nil
	}
	if id, isID := number(group); isID {
		found.gid = id
		return &found, nil
	}
	groups, err := v.groups(func(g user.Group) bool { return g.Name == group })
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, moss.Errorf(moss.Invalid, "failed to look up group %q in container: no matching entries in group file", group)
	}
	found.gid = groups[0].Gid
	return &found, nil
}

func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n <= math.MaxInt32
}

func (v *view) users(want func(user.User) bool) ([]user.User, error) {
	f, err := v.accounts("/etc/passwd")
	if f == nil || err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return user.ParsePasswdFilter(io.LimitReader(f, maxAccounts), want)
}

func (v *view) groups(want func(user.Group) bool) ([]user.Group, error) {
	f, err := v.accounts("/etc/group")
	if f == nil || err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return user.ParseGroupFilter(io.LimitReader(f, maxAccounts), want)
}

// accounts opens such a file; nil where there is none.
func (v *view) accounts(name string) (*os.File, error) {
	f, err := v.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close() // nothing was written
		return nil, moss.Errorf(moss.Invalid, "cannot use %s of the container: it is not a regular file", name)
	}
	return f, nil
}
