package meter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// userHZ is the unit of times in proc(5): the kernel's ABI.
const userHZ = 100

func isNoProcess(err error) bool {
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
}

// Processes returns those of a container, by pid. Errors: Conflict when it does not run.
func (m *Meter) Processes(_ context.Context, id moss.ContainerID, pid int) (moss.ProcessList, error) {
	list, err := m.processes(id, pid)
	return list, moss.Wrap(err, "list the processes of", id.Short())
}

func (m *Meter) processes(id moss.ContainerID, pid int) (list moss.ProcessList, err error) {
	dir, _, err := m.unitDir(id, pid)
	if err != nil {
		return list, err
	}
	all, err := m.pids(dir, pid)
	if err != nil {
		return list, err
	}
	boot, err := m.bootTime()
	if err != nil {
		return list, err
	}
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return list, err
	}
	list.At, list.Memory = time.Now(), int64(sys.Totalram)*int64(sys.Unit)
	names := lookups{users: map[int]string{}, groups: map[int]string{}}
	for _, pid := range all {
		p, err := m.process(pid, boot, names)
		if gone(err) == errNotRunning { //nolint:errorlint // the value itself is the sign
			continue
		}
		if err != nil {
			return list, err
		}
		list.Processes = append(list.Processes, p)
	}
	return list, nil
}

func (m *Meter) process(pid int, boot time.Time, names lookups) (moss.ProcessInfo, error) {
	text, err := os.ReadFile(m.proc(pid, "stat"))
	if err != nil {
		return moss.ProcessInfo{}, err
	}
	p, err := parseStat(string(text), boot)
	if err != nil {
		return p, fmt.Errorf("%s: %w", m.proc(pid, "stat"), err)
	}
	status, err := os.ReadFile(m.proc(pid, "status"))
	if err != nil {
		return p, err
	}
	p.UID, p.GID = statusID(string(status), "Uid:"), statusID(string(status), "Gid:")
	p.User, p.Group = names.user(p.UID), names.group(p.GID)
	cmdline, err := os.ReadFile(m.proc(pid, "cmdline"))
	if err != nil {
		return p, err
	}
	if s := strings.TrimRight(string(cmdline), "\x00"); s != "" {
		p.Args = strings.Split(s, "\x00")
	}
	return p, nil
}

var errStat = errors.New("not what proc_pid_stat(5) says")

// parseStat reads /proc/PID/stat. The program's name may hold anything, so it ends at the last parenthesis.
func parseStat(text string, boot time.Time) (p moss.ProcessInfo, err error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return p, errStat
	}
	if p.PID, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return p, errStat
	}
	p.Comm = text[open+1 : end]
	f := strings.Fields(text[end+1:])
	if len(f) < 22 {
		return p, errStat
	}
	p.State = f[0]
	n := make([]int64, len(f)) // as in proc_pid_stat(5), less 3
	for i := 1; i < 22; i++ {
		if i == 21 || i == 6 { // the flags, and what may be over an int64 some day
			continue
		}
		if n[i], err = strconv.ParseInt(f[i], 10, 64); err != nil {
			return p, errStat
		}
	}
	n[21], _ = strconv.ParseInt(f[21], 10, 64) // more than all memory is none that counts
	p.PPID, p.PGID, p.SID = int(n[1]), int(n[2]), int(n[3])
	p.TTY = ttyName(n[4])
	p.Foreground = n[5] == n[2] && n[4] != 0
	p.CPU = ticks(n[11] + n[12])
	p.Nice, p.Threads = int(n[16]), int(n[17])
	p.Started = boot.Add(ticks(n[19]))
	p.VSZ, p.RSS = n[20], n[21]*int64(os.Getpagesize())
	return p, nil
}

func ticks(n int64) time.Duration { return time.Duration(n) * (time.Second / userHZ) }

// ttyName is what ps calls a terminal by its device number, see pts(4) and tty(4).
func ttyName(dev int64) string {
	major, minor := uint64(dev>>8)&0xfff, uint64(dev&0xff)|uint64(dev>>12)&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)*256+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

// statusID is the effective one of a line of ids, -1 where there is none.
func statusID(status, key string) int {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == key {
			if id, err := strconv.Atoi(f[2]); err == nil {
				return id
			}
		}
	}
	return -1
}

func (m *Meter) bootTime() (time.Time, error) {
	text, err := os.ReadFile(m.Proc + "/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(text)) {
		if s, ok := strings.CutPrefix(line, "btime "); ok {
			if sec, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
				return time.Unix(sec, 0), nil
			}
		}
	}
	return time.Time{}, errors.New("/proc/stat does not tell when the machine booted")
}

// lookups remember names.
type lookups struct{ users, groups map[int]string }

func (l lookups) user(id int) string {
	return remember(l.users, id, func(s string) (string, error) {
		u, err := user.LookupId(s)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

func (l lookups) group(id int) string {
	return remember(l.groups, id, func(s string) (string, error) {
		g, err := user.LookupGroupId(s)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

func remember(known map[int]string, id int, find func(string) (string, error)) string {
	name, ok := known[id]
	if !ok {
		name = strconv.Itoa(id)
		if found, err := find(name); err == nil {
			name = found
		}
		known[id] = name
	}
	return name
}
