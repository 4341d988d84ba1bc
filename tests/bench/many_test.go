package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// party is one engine at many containers at once.
type party struct {
	name    string
	command func(argv ...string) []string // of the engine's client
	run     func(argv ...string) []string // run with what else this engine needs
}

func parties(b *testing.B) []party {
	b.Helper()
	moss := func(argv ...string) []string { return append([]string{"moss"}, argv...) }
	all := []party{{"moss", moss, func(argv ...string) []string { return moss(append([]string{"run"}, argv...)...) }}}
	if podmanUp(b) {
		all = append(all, party{"podman", pod, podmanRun})
	}
	if docker := dockerUp(b); docker != nil {
		all = append(all, party{"docker", docker, func(argv ...string) []string { return docker(append([]string{"run"}, argv...)...) }})
	}
	return all
}

// BenchmarkParallel starts 50 containers, 16 at a time, which stay.
func BenchmarkParallel(b *testing.B) {
	for _, network := range []string{"none", "default"} {
		b.Run(network, func(b *testing.B) {
			var all []contestant
			for _, p := range parties(b) {
				all = append(all, p.starts(network, 50, 16))
			}
			results := turns(b, all, 1, 5)
			told("50 containers, 16 at a time, network "+network, results)
			ratios(b, results, "podman", "podman", 0.3)
			ratios(b, results, "docker", "docker", 0)
		})
	}
}

func (p party) starts(network string, count, atOnce int) contestant {
	args := []string{"-d", "--label", "bench=many"}
	if network != "default" {
		args = append(args, "--network", network)
	}
	argv := p.run(append(args, "busybox", "sleep", "3600")...)
	var ids []string
	remove := func() error { return p.remove(&ids) }
	return contestant{name: p.name, reset: remove, clean: remove, run: func() error {
		var err error
		ids, err = repeated(count, atOnce, argv)
		return err
	}}
}

func (p party) remove(ids *[]string) error {
	if len(*ids) == 0 {
		return nil
	}
	_, err := suite.output(p.command(append([]string{"rm", "-f"}, *ids...)...)...)
	*ids = nil
	return err
}

// repeated runs a command many times and returns what each printed.
func repeated(count, atOnce int, argv []string) ([]string, error) {
	var mu sync.Mutex
	var said []string
	var errs []error
	var wg sync.WaitGroup
	tickets := make(chan struct{}, count)
	for range count {
		tickets <- struct{}{}
	}
	close(tickets)
	for range atOnce {
		wg.Go(func() {
			for range tickets {
				out, err := suite.output(argv...)
				mu.Lock()
				said, errs = append(said, out), append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return said, errors.Join(errs...)
}

// BenchmarkPs lists 100 containers.
func BenchmarkPs(b *testing.B) {
	var all []contestant
	for _, p := range parties(b) {
		ids, err := repeated(100, 4, p.command("create", "--network", "none", "busybox", "true"))
		if err != nil {
			b.Fatal(err)
		}
		c := says(p.name, p.command("ps", "-a")...)
		c.clean = func() error { return p.remove(&ids) }
		all = append(all, c)
	}
	results := inTurns(b, all)
	told("ps -a, 100 containers", results)
	ratios(b, results, "podman", "podman", 0)
	ratios(b, results, "docker", "docker", 0.5)
}

// BenchmarkIdle tells what each running container adds to the memory of those
// who are there anyway: the engine, and the service manager.
func BenchmarkIdle(b *testing.B) {
	const count, promised = 100, 100 // kB
	for _, network := range []string{"none", "bridge"} {
		b.Run(network, func(b *testing.B) {
			who := map[string]string{
				"mossd": unitCgroup(b, prefix+".service"), "holder": unitCgroup(b, prefix+"-rootless.service"),
				"user manager": filepath.Join("/", fmt.Sprintf("user.slice/user-%d.slice/user@%[1]d.service/init.scope", os.Getuid())),
			}
			grown := map[string]float64{}
			for done := false; b.Loop(); done = true {
				if done {
					continue // it is always the same
				}
				argv := []string{"moss", "run", "-d", "--network", network, "busybox", "sleep", "3600"}
				p := parties(b)[0]
				var ids []string
				start := func() {
					var err error
					if ids, err = repeated(count, 4, argv); err != nil {
						b.Fatal(err)
					}
				}
				remove := func() {
					if err := p.remove(&ids); err != nil {
						b.Fatal(err)
					}
				}
				start() // what is there once however many there are
				remove()
				before := settled(b, who)
				start()
				after := settled(b, who)
				remove()
				for name := range who {
					grown[name] = (after[name] - before[name]) * 1024 / count
				}
			}
			b.ReportMetric(0, "ns/op")
			fmt.Printf("\nmemory (PSS) per idle container, network %s:\n", network)
			for name, kb := range grown {
				fmt.Printf("    %-34s %8.1f kB\n", name, kb)
			}
			check(b, figure{"engine-kB/container", grown["mossd"] + grown["holder"], promised})
		})
	}
}

// settled is the memory of cgroups once nothing goes on and the collectors have run.
func settled(b *testing.B, who map[string]string) map[string]float64 {
	b.Helper()
	time.Sleep(12 * time.Second) // idle is a matter of time: the engine gives a little back after ten seconds
	got := map[string]float64{}
	for name, cgroup := range who {
		got[name] = memory(b, strings.TrimSuffix(cgroup, "/"))
	}
	return got
}
