package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rival is one engine at something: what it runs for the nth time, and what
// it does before, unmeasured. ext4 looks long for a free inode where many were
// freed in the last minutes (recently_deleted in its ialloc.c), which would be
// all that is measured: so nothing is removed between the rounds, and each
// round has an image that was never there.
type rival struct {
	run, before func(round int) []string
}

// contestant prepares each round unmeasured: what has to be there, the image
// that run names included, is made first, and then the disk has all that was
// written before: nobody pays for the other's files.
func (r rival) contestant(name string) contestant {
	var argv []string
	round := 0
	return contestant{name: name, reset: func() error {
		if r.before != nil {
			if _, err := suite.output(r.before(round)...); err != nil {
				return err
			}
		}
		argv = r.run(round)
		round++
		return synced(suite.top)
	}, run: func() error {
		_, err := suite.output(argv...)
		return err
	}}
}

// synced returns when the disk of a directory has what was written.
func synced(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

func pod(argv ...string) []string { return append(append([]string(nil), podman...), argv...) }

// against lets moss and podman do the same in turns and checks the ratios of
// wall time and of user processor time; a limit of 0 is only told.
func against(b *testing.B, what string, moss, other rival, wallLimit, userLimit float64) {
	b.Helper()
	all := []contestant{moss.contestant("moss " + what)}
	if podmanUp(b) {
		all = append(all, other.contestant("podman "+what))
	}
	results := inTurns(b, all)
	fmt.Printf("\n%s: median (lower quartile)\n", what)
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	if len(results) < 2 {
		b.Log("podman is not installed: not compared with it")
		return
	}
	m, p := results[0], results[1]
	told := func(name string, ratio, limit float64) {
		if limit > 0 {
			check(b, figure{name, ratio, limit})
			return
		}
		b.ReportMetric(ratio, name)
		fmt.Printf("    %-34s %8.2f\n", name, ratio)
	}
	told("wall/podman", median(m.wall)/median(p.wall), wallLimit)
	told("user/podman", median(m.user)/median(p.user), userLimit)
	told("cpu/podman", median(m.cpu)/median(p.cpu), 0)
}

// pulls are the commands that bring a name's nth image.
func pulls(b *testing.B, o *origin, name string) (moss, other func(int) []string) {
	b.Helper()
	return func(n int) []string { return []string{"moss", "pull", "-q", o.ref(b, name, n)} },
		func(n int) []string { return pod("pull", "-q", "--tls-verify=false", o.ref(b, name, n)) }
}

// BenchmarkPull brings images from the same registry.
func BenchmarkPull(b *testing.B) {
	for _, name := range []string{large, many} {
		b.Run(name, func(b *testing.B) {
			moss, other := pulls(b, newOrigin(b), name)
			against(b, "pull "+name, rival{run: moss}, rival{run: other}, 0.6, 0.6)
		})
	}
}

// BenchmarkArchive saves what was pulled, and loads archives made here.
func BenchmarkArchive(b *testing.B) {
	for _, name := range []string{large, many} {
		b.Run("save-"+name, func(b *testing.B) {
			o := newOrigin(b)
			moss, other := pulls(b, o, name)
			if podmanUp(b) {
				suite.must(b, other(0)...)
			}
			suite.must(b, moss(0)...)
			ref, mine, file := o.ref(b, name, 0), filepath.Join(suite.top, "mine.tar"), filepath.Join(suite.top, "other.tar")
			against(b, "save "+name,
				rival{before: func(int) []string { return []string{"rm", "-f", mine} }, run: func(int) []string { return []string{"moss", "save", "-o", mine, ref} }},
				rival{before: func(int) []string { return []string{"rm", "-f", file} }, run: func(int) []string { return pod("save", "-q", "-o", file, ref) }},
				0.7, 0.7)
			suite.must(b, "rm", "-f", mine, file)
		})
		b.Run("load-"+name, func(b *testing.B) {
			o := newOrigin(b)
			file := filepath.Join(suite.top, name+".tar")
			write := func(n int) []string {
				if err := o.archive(b, file, name, n); err != nil {
					b.Fatal(err)
				}
				return []string{"true"}
			}
			against(b, "load "+name,
				rival{before: write, run: func(int) []string { return []string{"moss", "load", "-q", "-i", file} }},
				rival{before: write, run: func(int) []string { return pod("load", "-q", "-i", file) }},
				0.7, 0.7)
			suite.must(b, "rm", "-f", file)
		})
	}
}

// BenchmarkRemove takes images away; what is removed behind the answer counts as processor time, not as wall time.
func BenchmarkRemove(b *testing.B) {
	for _, name := range []string{large, many} {
		b.Run(name, func(b *testing.B) {
			o := newOrigin(b)
			moss, other := pulls(b, o, name)
			against(b, "rmi "+name,
				rival{before: moss, run: func(n int) []string { return []string{"moss", "rmi", o.ref(b, name, n)} }},
				rival{before: other, run: func(n int) []string { return pod("rmi", o.ref(b, name, n)) }},
				0.3, 0)
		})
	}
}

// BenchmarkImages lists 50 images. Docker's 37 ms are PERF's: rootless docker
// cannot be installed beside a user's podman.
func BenchmarkImages(b *testing.B) {
	const images, dockerMS = 50, 37
	has := podmanUp(b)
	archive := filepath.Join(suite.top, "small.tar")
	for i := range images {
		layer := tree(b, uint64(100+i), 3, func(*rand.Rand) int { return 1000 })
		if err := os.WriteFile(archive, layer, 0o600); err != nil {
			b.Fatal(err)
		}
		tag := fmt.Sprintf("bench/list:%d", i)
		suite.must(b, "moss", "import", archive, tag)
		if has {
			suite.must(b, pod("import", "-q", archive, tag)...)
		}
	}
	b.Cleanup(func() {
		for i := range images {
			suite.must(b, "moss", "rmi", fmt.Sprintf("bench/list:%d", i))
		}
	})
	all := []contestant{
		{name: "moss images", run: func() error { _, err := suite.output("moss", "images"); return err }},
		{name: "docker images (client, of moss)", run: func() error { _, err := suite.output("docker", "images"); return err }},
	}
	if has {
		all = append(all, contestant{name: "podman images", run: func() error { _, err := suite.output(pod("images")...); return err }})
	}
	results := inTurns(b, all)
	fmt.Println("\nimages, 50 of them: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	check(b, figure{"wall/docker", median(results[0].wall) / dockerMS, 0.6})
	if has {
		check(b, figure{"wall/podman", median(results[0].wall) / median(results[2].wall), 0.6})
	}
}

// BenchmarkPullMemory pulls a gigabyte and looks at the daemon meanwhile.
func BenchmarkPullMemory(b *testing.B) {
	o := newOrigin(b)
	o.add(b, "bench/giga:1", func() (layers [][]byte) { // unpacked, they are not to stay in memory
		for i := range uint64(4) {
			layers = append(layers, tree(b, 50+i, 250, func(*rand.Rand) int { return 1_000_000 }))
		}
		return layers
	}()...)
	ref := o.host() + "/bench/giga:1"
	for b.Loop() {
		peak, err := peakDuring(b, func() error { _, err := suite.output("moss", "pull", "-q", ref); return err })
		if err != nil {
			b.Fatal(err)
		}
		check(b, figure{"peak-MB", peak, 120})
		suite.must(b, "moss", "rmi", ref)
	}
	b.ReportMetric(0, "ns/op")
}

// peakDuring is the most proportional memory (PSS) that the daemon was seen
// with, in MB, while run went on.
func peakDuring(b *testing.B, run func() error) (float64, error) {
	b.Helper()
	pids := processes(b, unitCgroup(b, prefix+".service"))

	done := make(chan error, 1)
	go func() { done <- run() }()
	peak := 0.0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return peak, err
		case <-tick.C:
			sum := 0
			for _, pid := range pids {
				kb, err := pss(pid)
				if err != nil {
					return peak, err
				}
				sum += kb
			}
			peak = max(peak, float64(sum)/1024)
		}
	}
}
