package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where cgroup2 is mounted.
var cgroups = func() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	return "/sys/fs/cgroup"
}()

// widest is the cgroup that holds all that a contestant sets in motion, and as
// little else as possible. In a rig that is the rig, with the system's manager,
// bus and journal; on a machine of many, the user's slice. The kernel accounts
// processor time by cgroup also where there is no cpu controller (cgroup v2
// documentation, "cpu.stat"); kernel threads are in none.
func widest() string {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.type")); err == nil { // only the root of all has none
		return "/"
	}
	return fmt.Sprintf("/user.slice/user-%d.slice", os.Getuid())
}

// cpuTime is processor time: all of it, and the part outside the kernel.
type cpuTime struct{ all, user time.Duration }

func (c cpuTime) minus(d cpuTime) cpuTime { return cpuTime{c.all - d.all, c.user - d.user} }

// usage is the processor time of a cgroup and all that were ever below it. A
// cgroup that is not there has used none.
func usage(cgroup string) (cpuTime, error) {
	data, err := os.ReadFile(filepath.Join(cgroups, cgroup, "cpu.stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return cpuTime{}, nil
	}
	if err != nil {
		return cpuTime{}, err
	}
	return parseUsage(string(data))
}

func parseUsage(stat string) (cpuTime, error) {
	found := map[string]time.Duration{}
	for line := range strings.Lines(stat) {
		key, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != "usage_usec" && key != "user_usec" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return cpuTime{}, err
		}
		found[key] = time.Duration(n) * time.Microsecond
	}
	if len(found) != 2 {
		return cpuTime{}, errors.New("no usage_usec or no user_usec in cpu.stat")
	}
	return cpuTime{found["usage_usec"], found["user_usec"]}, nil
}

func rusage(who int) (cpuTime, error) {
	var u unix.Rusage
	err := unix.Getrusage(who, &u)
	return cpuTime{time.Duration(u.Utime.Nano() + u.Stime.Nano()), time.Duration(u.Utime.Nano())}, err
}

// spent is all processor time so far but this process's own.
func spent() (cpuTime, error) {
	all, err := usage(widest())
	if err != nil {
		return cpuTime{}, err
	}
	own, err := rusage(unix.RUSAGE_SELF)
	return all.minus(own), err
}

// sample is one run of a contestant.
type sample struct{ wall, cpu, user time.Duration }

// The machine counts as quiet when this many looks in a row, this far apart,
// found next to nothing done.
const (
	quietLooks = 3
	quietGap   = 15 * time.Millisecond
	quietNoise = 400 * time.Microsecond
	quietLimit = 3 * time.Second
)

// measure times run; its processor time includes what goes on afterwards.
func measure(run func() error) (s sample, err error) {
	before, err := spent()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := run(); err != nil {
		return s, err
	}
	s.wall = time.Since(began)
	after, err := quiet()
	used := after.minus(before)
	s.cpu, s.user = used.all, used.user
	return s, err
}

// quiet waits until nothing goes on any more and returns what was spent until then.
func quiet() (cpuTime, error) {
	last, err := spent()
	for looks, deadline := 0, time.Now().Add(quietLimit); err == nil && looks < quietLooks && time.Now().Before(deadline); {
		time.Sleep(quietGap)
		var now cpuTime
		now, err = spent()
		if now.all-last.all < quietNoise {
			looks++
		} else {
			looks, last = 0, now
		}
	}
	return last, err
}

// contestant is one way to do the same thing.
type contestant struct {
	name  string
	run   func() error
	reset func() error // undoes a run, unmeasured; may be nil
	clean func() error // undoes the last; may be nil
}

// round is one measured run, from a machine at rest.
func (c contestant) round() (sample, error) {
	if c.reset != nil {
		if err := c.reset(); err != nil {
			return sample{}, err
		}
		if _, err := quiet(); err != nil {
			return sample{}, err
		}
	}
	return measure(c.run)
}

// result is a contestant's samples.
type result struct {
	name            string
	wall, cpu, user []float64 // ms
}

func (r *result) add(s sample) {
	r.wall = append(r.wall, s.wall.Seconds()*1000)
	r.cpu = append(r.cpu, s.cpu.Seconds()*1000)
	r.user = append(r.user, s.user.Seconds()*1000)
}

// inTurns lets the contestants run one after the other, b.N times, each time
// another one first.
func inTurns(b *testing.B, all []contestant) []result {
	b.Helper()
	return turns(b, all, 2, math.MaxInt)
}

// turns does so after some rounds for what is only done the first time, and at
// most so often: for what takes long.
func turns(b *testing.B, all []contestant, warm, most int) []result {
	b.Helper()
	results := make([]result, len(all))
	for i, c := range all {
		results[i].name = c.name
		for range warm {
			if _, err := c.round(); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	for first := 0; b.Loop(); first++ {
		for k := range all {
			if first >= most {
				break
			}
			i := (first + k) % len(all)
			s, err := all[i].round()
			if err != nil {
				b.Fatalf("%s: %v", all[i].name, err)
			}
			results[i].add(s)
		}
	}
	for _, c := range all {
		if c.clean != nil {
			if err := c.clean(); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // all contestants together: says nothing
	return results
}

// median of the values; 0 where there are none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// quarter is the lower quartile: what the machine does when others leave it alone.
func quarter(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[(len(v)-1)/4]
}

func (r *result) row() string {
	return fmt.Sprintf("%-34s wall %7.1f (%6.1f)   cpu %7.1f (%6.1f)   user %7.1f ms", r.name, median(r.wall), quarter(r.wall), median(r.cpu), quarter(r.cpu), median(r.user))
}

// figure is one promise: got may be at most limit.
type figure struct {
	name       string
	got, limit float64
}

func (f figure) String() string {
	verdict := "holds"
	if !f.met() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-34s %8.2f of %.2f  %s", f.name, f.got, f.limit, verdict)
}

func (f figure) met() bool { return f.got <= f.limit }

// check reports a figure; missed, it fails the run if that was asked for.
func check(b *testing.B, f figure) {
	b.Helper()
	b.ReportMetric(f.got, f.name)
	fmt.Println("   ", f)
	if *strict && !f.met() {
		b.Errorf("%s is %.2f, promised is %.2f", f.name, f.got, f.limit)
	}
}
