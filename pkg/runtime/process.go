package runtime

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// defaultPath is the PATH of a container whose image sets none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process is the container's own process.
func process(c moss.Container, a Accounts, env Environment) (*specs.Process, error) {
	who, home, err := a.account(c.Host, c.Config.User, env.IDs)
	if err != nil {
		return nil, err
	}
	who.Umask = c.Host.Umask
	limits, err := posixRlimits(c.Host.Ulimits, env)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(c.Host.CapAdd, c.Host.CapDrop, c.Host.Privileged, env.Capabilities)
	if err != nil {
		return nil, err
	}
	if c.Path == "" {
		return nil, moss.Errorf(moss.Invalid, "no command specified")
	}
	p := &specs.Process{
		Terminal:        c.Config.TTY,
		ConsoleSize:     consoleSize(c.Config.TTY, c.Host.ConsoleSize),
		User:            who,
		Args:            command(c),
		Env:             environ(c.Config, home),
		Cwd:             path.Join("/", c.Config.WorkingDir),
		Capabilities:    processCapabilities(caps, who),
		Rlimits:         limits,
		NoNewPrivileges: c.Host.NoNewPrivileges,
		ApparmorProfile: c.Host.AppArmor,
		SelinuxLabel:    c.SELinux.Process,
	}
	if score := c.Host.OomScoreAdj; score != 0 {
		if score < env.OOMScoreAdj {
			return nil, moss.Errorf(moss.Invalid,
				"invalid OomScoreAdj %d: a user cannot go below the score of his own session, %d; use a value from %d to 1000",
				score, env.OOMScoreAdj, env.OOMScoreAdj)
		}
		if score > 1000 {
			return nil, moss.Errorf(moss.Invalid, "invalid OomScoreAdj %d: it must be from -1000 to 1000", score)
		}
		p.OOMScoreAdj = &score
	}
	return p, nil
}

// processCapabilities gives the sets an execve(2) of this user would leave: only
// root has any from the start.
func processCapabilities(caps []string, who specs.User) *specs.LinuxCapabilities {
	sets := &specs.LinuxCapabilities{Bounding: caps}
	if who.UID == 0 {
		sets.Effective, sets.Permitted = caps, caps
	}
	return sets
}

// environ is the environment of the container's process.
func environ(c moss.ContainerConfig, home string) []string {
	env := []string{defaultPath, "HOSTNAME=" + c.Hostname}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	env = setEnv(env, c.Env)
	return withHome(env, home)
}

// withHome adds HOME where nobody has set it.
func withHome(env []string, home string) []string {
	if slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "HOME=") }) {
		return env
	}
	return append(env, "HOME="+home)
}

// setEnv lays changes over env, in place of what has the same name; a name
// without "=" takes the variable away.
func setEnv(env, changes []string) []string {
	out := slices.Clone(env)
	for _, change := range changes {
		name, _, set := strings.Cut(change, "=")
		at := slices.IndexFunc(out, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		switch {
		case at >= 0 && set:
			out[at] = change
		case at >= 0:
			out = slices.Delete(out, at, at+1)
		case set:
			out = append(out, change)
		}
	}
	return out
}

func consoleSize(tty bool, s moss.TermSize) *specs.Box {
	if !tty || s == (moss.TermSize{}) {
		return nil
	}
	return &specs.Box{Height: uint(s.Rows), Width: uint(s.Cols)}
}

// posixRlimits checks the limits against those of the engine, which nothing it
// starts can go beyond, and sorts them by name.
func posixRlimits(limits []moss.Ulimit, env Environment) ([]specs.POSIXRlimit, error) {
	byName := map[string]specs.POSIXRlimit{}
	for _, l := range limits {
		most, ok := env.Rlimits[l.Name]
		if !ok {
			return nil, moss.Errorf(moss.Invalid, "invalid ulimit: invalid ulimit type: %s", l.Name)
		}
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: rlimitValue(l.Soft), Hard: rlimitValue(l.Hard)}
		if r.Soft > r.Hard {
			return nil, moss.Errorf(moss.Invalid, "invalid ulimit: ulimit soft limit must be less than or equal to hard limit: %d > %d", l.Soft, l.Hard)
		}
		if r.Hard > most {
			return nil, moss.Errorf(moss.Invalid,
				"invalid ulimit %s: hard limit %d is above this user's own, %d, which a user cannot raise; ask the administrator for Limit%s= in user@.service",
				l.Name, l.Hard, int64(most), strings.ToUpper(l.Name))
		}
		byName[r.Type] = r
	}
	out := make([]specs.POSIXRlimit, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, nil
}

func rlimitValue(v int64) uint64 {
	if v < 0 {
		return unix.RLIM_INFINITY
	}
	return uint64(v)
}
