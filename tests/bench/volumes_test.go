package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkCopyUp runs a container with an empty volume where its image has
// 10,000 files.
func BenchmarkCopyUp(b *testing.B) {
	archive := filepath.Join(suite.top, "files.tar")
	if err := os.WriteFile(archive, tree(b, 77, 10_000, func(r *rand.Rand) int { return r.IntN(8 << 10) }), 0o600); err != nil {
		b.Fatal(err)
	}
	const image = "bench/files:1"
	suite.must(b, "moss", "import", archive, image)
	b.Cleanup(func() { suite.must(b, "moss", "rmi", image) })
	if podmanUp(b) {
		suite.must(b, pod("import", "-q", archive, image)...)
	}
	// The image has no program: a static one is bound into the container.
	static := filepath.Join(suite.top, "copyup-bin")
	suite.must(b, "mkdir", "-p", static)
	suite.must(b, "sh", "-c", `cp "$(command -v moss)" "$0"`, static)
	create := func(n int) []string { // podman fills a volume at the start, not before
		return []string{"run", "--rm", "--network", "none", "-v", static + ":/b:ro", "-v", fmt.Sprintf("copyup%d:/srv", n), image, "/b/moss", "--version"}
	}
	b.Cleanup(func() {
		suite.must(b, "sh", "-c", "moss volume ls -q --filter name=copyup | xargs moss volume rm")
	})
	against(b, "run with a volume to fill with 10,000 files",
		rival{run: func(n int) []string { return append([]string{"moss"}, create(n)...) }},
		rival{run: func(n int) []string {
			if argv := create(n); !controller("pids") {
				return pod(append([]string{"run", "--pids-limit", "-1"}, argv[1:]...)...)
			}
			return pod(create(n)...)
		}},
		0.7, 0)
}

// BenchmarkVolumeList lists 500 volumes.
func BenchmarkVolumeList(b *testing.B) {
	const volumes = 500
	has := podmanUp(b)
	for i := range volumes {
		name := fmt.Sprint("list", i)
		suite.must(b, "moss", "volume", "create", name)
		if has {
			suite.must(b, pod("volume", "create", name)...)
		}
	}
	b.Cleanup(func() {
		suite.must(b, "sh", "-c", "moss volume ls -q --filter name=list | xargs moss volume rm")
	})
	all := []contestant{{name: "moss volume ls", run: func() error { _, err := suite.output("moss", "volume", "ls"); return err }}}
	if has {
		all = append(all, contestant{name: "podman volume ls", run: func() error { _, err := suite.output(pod("volume", "ls")...); return err }})
	}
	results := inTurns(b, all)
	fmt.Println("\nvolume ls, 500 of them: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	if has {
		check(b, figure{"wall/podman", median(results[0].wall) / median(results[1].wall), 0.3})
	}
}

// BenchmarkMounts tells what a bind, a volume and an image cost a start.
func BenchmarkMounts(b *testing.B) {
	const limit = 1 // millisecond
	dir := filepath.Join(suite.top, "mounted")
	suite.must(b, "mkdir", "-p", dir)
	suite.must(b, "moss", "volume", "create", "mounted")
	b.Cleanup(func() { suite.must(b, "moss", "volume", "rm", "mounted") })
	run := func(name string, mounts ...string) contestant {
		argv := append(append([]string{"moss", "run", "--rm", "--network", "none"}, mounts...), "busybox", "true")
		return contestant{name: name, run: func() error { _, err := suite.output(argv...); return err }}
	}
	results := inTurns(b, []contestant{
		run("moss run"), run("with a bind", "-v", dir+":/mounted"), run("with a volume", "-v", "mounted:/mounted"),
		run("with an image", "--mount", "type=image,source=busybox,target=/mounted"),
	})
	fmt.Println("\na start with one mount: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	// It is work of the processor's, which can be told from noise; wall times of so little cannot.
	for _, r := range results[1:3] {
		check(b, figure{"ms-" + strings.ReplaceAll(r.name, " ", "-"), quarter(r.cpu) - quarter(results[0].cpu), limit})
	}
}
