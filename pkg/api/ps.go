package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// psColumn is a column of ps(1).
type psColumn struct {
	title string
	cell  func(*moss.ProcessList, *moss.ProcessInfo) string
}

// of makes a column that needs no more than the process.
func of(title string, cell func(*moss.ProcessInfo) string) psColumn {
	return psColumn{title, func(_ *moss.ProcessList, p *moss.ProcessInfo) string { return cell(p) }}
}

func ofInt(title string, cell func(*moss.ProcessInfo) int) psColumn {
	return of(title, func(p *moss.ProcessInfo) string { return strconv.Itoa(cell(p)) })
}

// psTable has the columns by ps's names for them.
var psTable = func() map[string]psColumn {
	t := map[string]psColumn{
		"pid": ofInt("PID", func(p *moss.ProcessInfo) int { return p.PID }), "ppid": ofInt("PPID", func(p *moss.ProcessInfo) int { return p.PPID }),
		"pgid": ofInt("PGID", func(p *moss.ProcessInfo) int { return p.PGID }), "sid": ofInt("SID", func(p *moss.ProcessInfo) int { return p.SID }),
		"uid": ofInt("UID", func(p *moss.ProcessInfo) int { return p.UID }), "gid": ofInt("GID", func(p *moss.ProcessInfo) int { return p.GID }),
		"user": of("USER", func(p *moss.ProcessInfo) string { return p.User }), "group": of("GROUP", func(p *moss.ProcessInfo) string { return p.Group }),
		"comm": of("COMMAND", commOf), "args": of("COMMAND", commandOf), "cmd": of("CMD", commandOf),
		"s": of("S", func(p *moss.ProcessInfo) string { return p.State }), "stat": of("STAT", statOf),
		"tty": of("TT", func(p *moss.ProcessInfo) string { return p.TTY }), "ni": ofInt("NI", func(p *moss.ProcessInfo) int { return p.Nice }),
		"nlwp": ofInt("NLWP", func(p *moss.ProcessInfo) int { return p.Threads }),
		"vsz":  of("VSZ", func(p *moss.ProcessInfo) string { return kib(p.VSZ) }), "rss": of("RSS", func(p *moss.ProcessInfo) string { return kib(p.RSS) }),
		"c":    {"C", func(l *moss.ProcessList, p *moss.ProcessInfo) string { return strconv.Itoa(int(cpuShare(l, p))) }},
		"%cpu": {"%CPU", func(l *moss.ProcessList, p *moss.ProcessInfo) string { return fmt.Sprintf("%.1f", cpuShare(l, p)) }},
		"%mem": {"%MEM", func(l *moss.ProcessList, p *moss.ProcessInfo) string {
			return fmt.Sprintf("%.1f", 100*float64(p.RSS)/float64(max(l.Memory, 1)))
		}},
		"stime":  {"STIME", startedText},
		"lstart": of("STARTED", func(p *moss.ProcessInfo) string { return p.Started.Format(time.ANSIC) }),
		"etime":  {"ELAPSED", func(l *moss.ProcessList, p *moss.ProcessInfo) string { return clock(l.At.Sub(p.Started), false) }},
		"etimes": {"ELAPSED", func(l *moss.ProcessList, p *moss.ProcessInfo) string {
			return strconv.Itoa(int(max(l.At.Sub(p.Started), 0).Seconds()))
		}},
		"time": of("TIME", func(p *moss.ProcessInfo) string { return clock(p.CPU, true) }),
		"bsdtime": of("TIME", func(p *moss.ProcessInfo) string {
			return fmt.Sprintf("%d:%02d", int(p.CPU.Minutes()), int(p.CPU.Seconds())%60)
		}),
	}
	maps.Copy(t, map[string]psColumn{
		"pgrp": {"PGRP", t["pgid"].cell}, "sess": {"SESS", t["sid"].cell}, "session": {"SESS", t["sid"].cell},
		"euid": {"EUID", t["uid"].cell}, "egid": {"EGID", t["gid"].cell}, "euser": {"EUSER", t["user"].cell}, "uname": t["user"], "egroup": {"EGROUP", t["group"].cell},
		"ucmd": {"CMD", t["comm"].cell}, "ucomm": t["comm"], "command": t["args"], "state": t["s"], "tt": t["tty"], "tname": {"TTY", t["tty"].cell},
		"nice": t["ni"], "thcount": {"THCNT", t["nlwp"].cell}, "vsize": t["vsz"], "rssize": t["rss"], "rsz": {"RSZ", t["rss"].cell},
		"pcpu": t["%cpu"], "pmem": t["%mem"], "start_time": {"START", t["stime"].cell}, "bsdstart": {"START", t["stime"].cell}, "cputime": t["time"],
	})
	return t
}()

var (
	psFull = slices.Concat([]psColumn{{"UID", psTable["user"].cell}}, named("pid", "ppid", "c", "stime"), []psColumn{{"TTY", psTable["tty"].cell}}, named("time", "cmd"))
	psBSD  = slices.Concat(named("user", "pid", "%cpu", "%mem", "vsz", "rss"), []psColumn{{"TTY", psTable["tty"].cell}}, named("stat", "bsdstart", "bsdtime", "args"))
	psBare = slices.Concat(named("pid"), []psColumn{{"TTY", psTable["tty"].cell}}, named("time", "ucmd"))
)

func named(names ...string) []psColumn {
	var out []psColumn
	for _, n := range names {
		out = append(out, psTable[n])
	}
	return out
}

// psColumns reads the arguments of ps. Which processes it is to choose does not
// matter: the container's are meant.
func psColumns(args string) ([]psColumn, error) {
	columns, lists := psBare, []string(nil)
	words := strings.Fields(args)
	for i := 0; i < len(words); i++ {
		format, list, open, err := psWord(words[i])
		if err != nil {
			return nil, err
		}
		if format != nil {
			columns = format
		}
		if open && list == "" {
			if i++; i == len(words) {
				return nil, psRefused(words[i-1], "a list of columns is missing")
			}
			list = words[i]
		}
		if open {
			lists = append(lists, strings.Split(list, ",")...)
		}
	}
	if lists == nil {
		return columns, nil
	}
	columns = nil
	for _, name := range lists {
		c, ok := psTable[strings.ToLower(name)]
		if !ok {
			return nil, psRefused(name, "known columns are "+strings.Join(slices.Sorted(maps.Keys(psTable)), " "))
		}
		columns = append(columns, c)
	}
	if !slices.ContainsFunc(columns, func(c psColumn) bool { return c.title == "PID" }) {
		return nil, moss.Errorf(moss.Invalid, "Couldn't find PID field in ps output")
	}
	return columns, nil
}

// psWord reads one argument: a format it asks for, and whether a list of
// columns comes, in the same word or in the next.
func psWord(word string) (format []psColumn, list string, open bool, err error) {
	if rest, ok := strings.CutPrefix(word, "--format"); ok && (rest == "" || rest[0] == '=') {
		return nil, strings.TrimPrefix(rest, "="), true, nil
	}
	letters, unix := strings.CutPrefix(word, "-")
	bsd := !unix || strings.HasPrefix(letters, "au") // ps takes -aux for aux too
	for i, l := range letters {
		switch {
		case l == 'o':
			return format, letters[i+1:], true, nil
		case l == 'w': // nothing is cut here
		case bsd && strings.ContainsRune("ax", l), !bsd && strings.ContainsRune("eA", l):
		case bsd && l == 'u':
			format = psBSD
		case !bsd && l == 'f':
			format = psFull
		case bsd && l == 'e' && letters == "ef": // as many people write it
			return psFull, "", false, nil
		default:
			return nil, "", false, psRefused(word, "")
		}
	}
	if letters == "" {
		return nil, "", false, psRefused(word, "")
	}
	return format, "", false, nil
}

func psRefused(what, why string) error {
	if why == "" {
		why = "moss does not run ps but understands -e, -A, -f, -w, aux and -o COLUMN,…"
	}
	return moss.Errorf(moss.Invalid, "cannot list processes with %q: %s", what, why)
}

func commOf(p *moss.ProcessInfo) string {
	if p.State == "Z" {
		return p.Comm + " <defunct>"
	}
	return p.Comm
}

// commandOf is the command line; in brackets the name where there is none.
func commandOf(p *moss.ProcessInfo) string {
	switch {
	case len(p.Args) > 0:
		return strings.Join(p.Args, " ")
	case p.State == "Z":
		return "[" + p.Comm + "] <defunct>"
	}
	return "[" + p.Comm + "]"
}

func statOf(p *moss.ProcessInfo) string {
	s := p.State
	if p.Nice < 0 {
		s += "<"
	}
	if p.Nice > 0 {
		s += "N"
	}
	if p.SID == p.PID {
		s += "s"
	}
	if p.Threads > 1 {
		s += "l"
	}
	if p.Foreground {
		s += "+"
	}
	return s
}

func kib(bytes int64) string { return strconv.FormatInt(bytes/1024, 10) }

// cpuShare is the part of its life that a process has run, in percent of a processor.
func cpuShare(l *moss.ProcessList, p *moss.ProcessInfo) float64 {
	life := l.At.Sub(p.Started)
	if life <= 0 {
		return 0
	}
	return 100 * p.CPU.Seconds() / life.Seconds()
}

// startedText is the time of today, or the day, or the year.
func startedText(l *moss.ProcessList, p *moss.ProcessInfo) string {
	at, now := p.Started, l.At
	switch {
	case at.Year() == now.Year() && at.YearDay() == now.YearDay(), now.Sub(at) < 24*time.Hour && now.Sub(at) >= 0:
		return at.Format("15:04")
	case at.Year() == now.Year():
		return at.Format("Jan02")
	}
	return at.Format("2006")
}

// clock is [dd-]hh:mm:ss; without hours, mm:ss where there are none and it is not asked for more.
func clock(d time.Duration, hours bool) string {
	s := int(max(d, 0).Seconds())
	days, h, m, s := s/86400, s/3600%24, s/60%60, s%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d-%02d:%02d:%02d", days, h, m, s)
	case h > 0 || hours:
		return fmt.Sprintf("%02d:%02d:%02d", h, m, s)
	}
	return fmt.Sprintf("%02d:%02d", m, s)
}
