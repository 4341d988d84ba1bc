package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dockerSeccomp returns docker's default profile for the machine's three
// architectures, or for x86-64 alone.
func dockerSeccomp(t testing.TB, spec *specs.Spec, oneArch bool) *specs.LinuxSeccomp {
	t.Helper()
	p, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if oneArch {
		p.Architectures = []specs.Arch{specs.ArchX86_64}
	}
	return p
}

// BenchmarkContainer times create, start and delete of a container that runs
// true, and the processor time of all of it, the container's own included.
// Run it with -benchtime=100x; crun and runc are measured where they are
// installed, round robin, because wall times drift.
func BenchmarkContainer(b *testing.B) {
	runtimes := [][]string{{os.Getenv(binaryEnv)}}
	for _, other := range []string{"crun --cgroup-manager=disabled", "runc"} {
		argv := strings.Fields(other)
		if path, err := exec.LookPath(argv[0]); err == nil {
			runtimes = append(runtimes, append([]string{path}, argv[1:]...))
		}
	}
	for _, more := range filepath.SplitList(os.Getenv("MOSS_RUNTIME_BENCH_ALSO")) {
		runtimes = append(runtimes, []string{more})
	}
	// Orphans become children of this process, so their time is counted.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		b.Fatal(err)
	}
	for _, profile := range []string{"none", "x86-64", "docker"} {
		b.Run(profile, func(b *testing.B) {
			c := newContainer(b, "true")
			c.peers = true
			if profile != "none" {
				c.spec.Linux.Seccomp = dockerSeccomp(b, c.spec, profile == "x86-64")
			}
			c.spec.Version = "1.0.2" // older runtimes refuse what they do not know
			total := make([]timing, len(runtimes))
			for range b.N {
				for i, argv := range runtimes {
					total[i].add(c.once(argv))
				}
			}
			for i, argv := range runtimes {
				total[i].report(b, filepath.Base(argv[0]))
			}
		})
	}
}

type timing struct{ create, start, remove, cpu []time.Duration }

func (t *timing) add(one [4]time.Duration) {
	t.create = append(t.create, one[0])
	t.start = append(t.start, one[1])
	t.remove = append(t.remove, one[2])
	t.cpu = append(t.cpu, one[3])
}

func (t *timing) report(b *testing.B, name string) {
	ms := func(d []time.Duration) float64 {
		d = slices.Clone(d)
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	fmt.Printf("%-40s %-14s create %6.1f  start %5.1f  delete %5.1f  cpu %6.1f ms\n",
		b.Name(), name, ms(t.create), ms(t.start), ms(t.remove), ms(t.cpu))
}

// once takes the container through its life with one runtime.
func (c *container) once(argv []string) (out [4]time.Duration) {
	c.t.Helper()
	if c.cgroup != "" { // runc takes it for its own and removes it
		if err := os.MkdirAll(c.cgroup, 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	before := childTime(c.t)
	pidFile := filepath.Join(filepath.Dir(c.bundle), "bench.pid")
	saved := os.Getenv(binaryEnv)
	defer os.Setenv(binaryEnv, saved)
	os.Setenv(binaryEnv, argv[0])
	run := func(cmd *exec.Cmd) time.Duration {
		cmd.Args = append(append([]string{argv[0]}, argv[1:]...), cmd.Args[1:]...)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // as the engine starts it
		began := time.Now()
		if err := cmd.Run(); err != nil {
			c.t.Fatalf("%v: %v\n%s", cmd.Args, err, c.read("log"))
		}
		return time.Since(began)
	}
	out[0] = run(c.launch("create", "--pid-file", pidFile))
	data, err := os.ReadFile(pidFile)
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		c.t.Fatal(err)
	}
	out[1] = run(c.command("start", c.id))
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		c.t.Fatal(err)
	}
	out[2] = run(c.command("delete", c.id))
	out[3] = childTime(c.t) - before
	return out
}

// childTime is the processor time of all processes that this one has reaped.
func childTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
