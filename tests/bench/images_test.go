package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rival is moss and podman at the same thing: what each runs, and what undoes it.
type rival struct {
	run, undo []string
}

func (r rival) contestant(name string) contestant {
	do := func(argv []string) error {
		if argv == nil {
			return nil
		}
		_, err := suite.output(argv...)
		return err
	}
	return contestant{name: name, run: func() error { return do(r.run) }, reset: func() error {
		_ = do(r.undo) // the first time there is nothing to undo
		return nil
	}}
}

func pod(argv ...string) []string { return append(append([]string(nil), podman...), argv...) }

// against lets moss and podman do the same in turns and checks the ratios of
// wall time and of user processor time; a limit of 0 is only told.
func against(b *testing.B, what string, moss, other rival, wallLimit, userLimit float64) {
	b.Helper()
	all := []contestant{moss.contestant("moss " + what)}
	if other.run != nil {
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

// origins is a registry with both images, made once.
func origins(b *testing.B) *origin {
	b.Helper()
	o := newOrigin(b)
	o.addLarge(b)
	o.addMany(b)
	return o
}

// BenchmarkPull brings images from the same registry.
func BenchmarkPull(b *testing.B) {
	o := origins(b)
	has := podmanUp(b)
	for _, name := range []string{largeName, manyName} {
		b.Run(label(name), func(b *testing.B) {
			ref := o.host() + "/" + name
			moss, other := rival{[]string{"moss", "pull", "-q", ref}, []string{"moss", "rmi", ref}}, rival{}
			if has {
				other = rival{pod("pull", "-q", "--tls-verify=false", ref), pod("rmi", ref)}
			}
			against(b, "pull "+label(name), moss, other, 0.6, 0.6)
		})
	}
}

func label(name string) string { return strings.TrimSuffix(filepath.Base(name), ":1") }

// fetched makes sure that both engines have the image.
func fetched(b *testing.B, o *origin, name string, has bool) string {
	b.Helper()
	ref := o.host() + "/" + name
	suite.must(b, "moss", "pull", "-q", ref)
	if has {
		suite.must(b, pod("pull", "-q", "--tls-verify=false", ref)...)
	}
	return ref
}

// BenchmarkArchive saves and loads what was pulled; each loads the archive that podman made.
func BenchmarkArchive(b *testing.B) {
	o := origins(b)
	has := podmanUp(b)
	for _, name := range []string{largeName, manyName} {
		ref := fetched(b, o, name, has)
		file := filepath.Join(suite.top, label(name)+".tar")
		b.Run("save-"+label(name), func(b *testing.B) {
			mine := filepath.Join(suite.top, "mine.tar")
			moss, other := rival{[]string{"moss", "save", "-o", mine, ref}, []string{"rm", "-f", mine}}, rival{}
			if has {
				other = rival{pod("save", "-q", "-o", file, ref), []string{"rm", "-f", file}}
			}
			against(b, "save "+label(name), moss, other, 0.7, 0.7)
		})
		if !has {
			suite.must(b, "moss", "save", "-o", file, ref)
		}
		b.Run("load-"+label(name), func(b *testing.B) {
			moss, other := rival{[]string{"moss", "load", "-q", "-i", file}, []string{"moss", "rmi", ref}}, rival{}
			if has {
				other = rival{pod("load", "-q", "-i", file), pod("rmi", ref)}
			}
			against(b, "load "+label(name), moss, other, 0.7, 0.7)
		})
		for _, f := range []string{file, filepath.Join(suite.top, "mine.tar")} {
			if err := os.RemoveAll(f); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRemove takes images away; what is removed behind the answer counts as processor time, not as wall time.
func BenchmarkRemove(b *testing.B) {
	o := origins(b)
	has := podmanUp(b)
	for _, name := range []string{largeName, manyName} {
		b.Run(label(name), func(b *testing.B) {
			ref := o.host() + "/" + name
			moss, other := rival{[]string{"moss", "rmi", ref}, []string{"moss", "pull", "-q", ref}}, rival{}
			if has {
				other = rival{pod("rmi", ref), pod("pull", "-q", "--tls-verify=false", ref)}
			}
			against(b, "rmi "+label(name), moss, other, 0.3, 0)
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
	var layers [][]byte
	for i := range uint64(4) {
		layers = append(layers, tree(b, 50+i, 250, func(*rand.Rand) int { return 1_000_000 }))
	}
	o.add(b, "bench/giga:1", layers...)
	layers = nil
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
