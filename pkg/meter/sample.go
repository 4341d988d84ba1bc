package meter

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Sample tells what a container uses: by its unit's cgroup, and where a
// controller is not there by its processes. Errors: Conflict when it does not run.
func (m *Meter) Sample(_ context.Context, id moss.ContainerID, pid int) (moss.Sample, error) {
	s, err := m.sample(id, pid)
	return s, moss.Wrap(err, "measure", id.Short())
}

func (m *Meter) sample(id moss.ContainerID, pid int) (s moss.Sample, err error) {
	dir, v2, err := m.unitDir(id, pid)
	if err != nil {
		return s, err
	}
	if s.SystemCPU, err = m.systemCPU(); err != nil {
		return s, err
	}
	s.At, s.CPUs = time.Now(), runtime.NumCPU()
	var byProcess processUse
	if !v2 || !exists(dir, "cpu.stat") || !exists(dir, "memory.current") || !exists(dir, "pids.current") {
		if byProcess, err = m.processUse(dir, pid); err != nil {
			return s, err
		}
	}
	readCPU(&s, dir, byProcess)
	if err := readMemory(&s, dir, byProcess); err != nil {
		return s, err
	}
	s.PIDs, s.PIDsLimit = byProcess.threads, 0
	if n, ok := number(dir, "pids.current"); ok {
		s.PIDs = n
		s.PIDsLimit, _ = number(dir, "pids.max") // "max" is none
	}
	if text, err := os.ReadFile(filepath.Join(dir, "io.stat")); err == nil {
		s.BlockIO = parseIO(string(text))
	}
	text, err := os.ReadFile(m.proc(pid, "net/dev"))
	if err != nil {
		return s, gone(err)
	}
	s.Networks = parseLinks(string(text))
	return s, nil
}

func readCPU(s *moss.Sample, dir string, by processUse) {
	text, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil || by.noCgroup {
		s.CPU, s.CPUUser, s.CPUKern = by.user+by.kernel, by.user, by.kernel
		return
	}
	stat := flat(string(text))
	micros := func(key string) time.Duration { return time.Duration(stat[key]) * time.Microsecond }
	s.CPU, s.CPUUser, s.CPUKern = micros("usage_usec"), micros("user_usec"), micros("system_usec")
	s.Periods, s.Throttled, s.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], micros("throttled_usec")
}

func readMemory(s *moss.Sample, dir string, by processUse) error {
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return err
	}
	s.MemoryLimit = uint64(sys.Totalram) * uint64(sys.Unit)
	current, ok := number(dir, "memory.current")
	if !ok {
		s.Memory = by.rss
		return nil
	}
	s.Memory = current
	if limit, ok := number(dir, "memory.max"); ok && limit < s.MemoryLimit {
		s.MemoryLimit = limit
	}
	if text, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
		s.MemoryStats = flat(string(text))
	}
	if text, err := os.ReadFile(filepath.Join(dir, "memory.events")); err == nil {
		s.MemoryFailures = flat(string(text))["max"]
	}
	return nil
}

// processUse is what the processes that are there now use. The time of those
// that have ended is in their parents'.
type processUse struct {
	user, kernel time.Duration
	rss, threads uint64
	noCgroup     bool // the cgroup does not tell of processor time
}

func (m *Meter) processUse(dir string, main int) (use processUse, err error) {
	use.noCgroup = !exists(dir, "cpu.stat")
	all, err := m.pids(dir, main)
	if err != nil {
		return use, err
	}
	for _, pid := range all {
		text, err := os.ReadFile(m.proc(pid, "stat"))
		if err != nil {
			continue // it has ended
		}
		p, err := parseStat(string(text), time.Time{})
		if err != nil {
			return use, err
		}
		user, kernel := statTimes(string(text))
		use.user, use.kernel = use.user+user, use.kernel+kernel
		use.rss, use.threads = use.rss+uint64(max(p.RSS, 0)), use.threads+uint64(max(p.Threads, 0))
	}
	return use, nil
}

// statTimes are the times of a process and of its children that have ended.
func statTimes(stat string) (user, kernel time.Duration) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	n := func(i int) time.Duration {
		v, _ := strconv.ParseInt(f[i], 10, 64) // parseStat has read it
		return ticks(v)
	}
	return n(11) + n(13), n(12) + n(14)
}

// systemCPU is the time that all processors have spent, idle or not, as docker counts it.
func (m *Meter) systemCPU() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(m.Proc, "stat"))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(strings.SplitN(string(text), "\n", 2)[0])
	var sum int64
	for i := 1; i < len(f) && i < 8; i++ {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return ticks(sum), nil
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

// number reads a file of one number; false for "max" and where it is not there.
func number(dir, name string) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// flat reads lines of a word and a number.
func flat(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			out[f[0]] = n
		}
	}
	return out
}

// parseIO reads io.stat: "8:0 rbytes=1 wbytes=2 …".
func parseIO(text string) []moss.BlockIO {
	var out []moss.BlockIO
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		ma, mi, _ := strings.Cut(f[0], ":")
		major, err1 := strconv.ParseUint(ma, 10, 32)
		minor, err2 := strconv.ParseUint(mi, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			op := map[string]string{"rbytes": "read", "wbytes": "write"}[key]
			if n, err := strconv.ParseUint(value, 10, 64); err == nil && op != "" {
				out = append(out, moss.BlockIO{Major: major, Minor: minor, Op: op, Bytes: n})
			}
		}
	}
	return out
}

// parseLinks reads /proc/PID/net/dev, but for the loopback.
func parseLinks(text string) map[string]moss.LinkUse {
	out := map[string]moss.LinkUse{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 12 || name == "" || name == "lo" {
			continue
		}
		var n [12]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(f[i], 10, 64) // the kernel writes numbers
		}
		out[name] = moss.LinkUse{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return out
}
