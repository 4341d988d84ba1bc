package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxAccounts bounds what is read of an image's passwd and group files, in bytes.
const maxAccounts = 4 << 20

// Accounts are an image's users and groups: the text of passwd(5) and group(5),
// empty where the image has none.
type Accounts struct{ Passwd, Group []byte }

// readAccounts reads them from below rootfs, whose owner may be hostile: links
// are followed inside the root only, and what is no plain file is not opened
// for long.
func readAccounts(rootfs string) (Accounts, error) {
	var a Accounts
	var errs [2]error
	a.Passwd, errs[0] = readInRoot(rootfs, "etc/passwd")
	a.Group, errs[1] = readInRoot(rootfs, "etc/group")
	return a, errors.Join(errs[:]...)
}

func readInRoot(root, path string) ([]byte, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the root file system %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s of the image: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, moss.Errorf(moss.Invalid, "cannot use /%s of the image: it is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s of the image: %w", path, err)
	}
	if len(data) > maxAccounts {
		return nil, moss.Errorf(moss.Invalid, "cannot use /%s of the image: it is larger than %d bytes", path, maxAccounts)
	}
	return data, nil
}

// lookup finds the ids of "user[:group]" and its home. Words are docker's.
func (a Accounts) lookup(name string, groupAdd []string, ids uint32) (specs.User, string, error) {
	invalid := func(err error) (specs.User, string, error) {
		return specs.User{}, "", moss.Errorf(moss.Invalid, "%w", err)
	}
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, bytes.NewReader(a.Passwd), bytes.NewReader(a.Group))
	if err != nil {
		return invalid(err)
	}
	extra, err := user.GetAdditionalGroups(groupAdd, bytes.NewReader(a.Group))
	if err != nil {
		return invalid(errors.New(lowerFirst(err.Error())))
	}
	slices.Sort(extra) // they come in any order
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	seen := map[int]bool{}
	for _, g := range append(append([]int{u.Gid}, u.Sgids...), extra...) {
		if !seen[g] {
			seen[g] = true
			out.AdditionalGids = append(out.AdditionalGids, uint32(g))
		}
	}
	for _, id := range append([]uint32{out.UID}, out.AdditionalGids...) {
		if id >= ids {
			return specs.User{}, "", moss.Errorf(moss.Invalid,
				"cannot use id %d: this user has the ids 0 to %d only; give more of them in /etc/subuid and /etc/subgid and restart moss-rootless.service",
				id, ids-1)
		}
	}
	return out, u.Home, nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
