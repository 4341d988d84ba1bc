package bench

import (
	"fmt"
	"slices"
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"
)

// BenchmarkRun starts a container that ends at once, with nothing to speak of
// in it: what is left is the engine.
func BenchmarkRun(b *testing.B) {
	crun := newBare(b)
	conn, err := sd.NewUserConnectionContext(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	argv := []string{"--rm", "--network", "none", "busybox", "true"}
	all := []contestant{
		says("moss run", append([]string{"moss", "run"}, argv...)...),
		{name: "crun run, systemd-run", run: crun.bySystemdRun},
		{name: "crun run, unit over D-Bus", run: func() error { return crun.byDBus(conn) }},
	}
	if podmanUp(b) {
		all = append(all, says("podman run", podmanRun(argv...)...))
	}
	if docker := dockerUp(b); docker != nil {
		all = append(all, says("docker run", docker(append([]string{"run"}, argv...)...)...))
	}
	results := inTurns(b, all)
	told("run --rm --network none busybox true", results)
	// systemd-run is a command line, as moss is; the other is told beside it.
	ratios(b, results, "crun run, systemd-run", "crun", 1.8)
	ratios(b, results, "crun run, unit over D-Bus", "crun-dbus", 0)
	ratios(b, results, "podman run", "podman", 0.25)
	ratios(b, results, "docker run", "docker", 0)
}

// BenchmarkRunBridge does so with the default network: one of its own behind a
// bridge. podman's default for a user is slirp4netns, a process for each.
func BenchmarkRunBridge(b *testing.B) {
	all := []contestant{says("moss run", "moss", "run", "--rm", "busybox", "true")}
	if podmanUp(b) {
		all = append(all, says("podman run", podmanRun("--rm", "busybox", "true")...))
	}
	if docker := dockerUp(b); docker != nil {
		all = append(all, says("docker run", docker("run", "--rm", "busybox", "true")...))
	}
	results := inTurns(b, all)
	told("run --rm busybox true", results)
	ratios(b, results, "podman run", "podman", 0.25)
	ratios(b, results, "docker run", "docker", 0)
}

// BenchmarkExec runs a process in a container that is there.
func BenchmarkExec(b *testing.B) {
	stays := []string{"-d", "--name", "bench-exec", "--network", "none", "busybox", "sleep", "3600"}
	argv := []string{"exec", "bench-exec", "true"}
	var all []contestant
	add := func(name string, run, exec, rm []string) {
		suite.must(b, run...)
		all = append(all, says(name, exec...))
		b.Cleanup(func() { suite.must(b, rm...) })
	}
	rm := []string{"rm", "-f", "bench-exec"}
	add("moss exec", append([]string{"moss", "run"}, stays...), append([]string{"moss"}, argv...), append([]string{"moss"}, rm...))
	if podmanUp(b) {
		add("podman exec", podmanRun(stays...), pod(argv...), pod(rm...))
	}
	if docker := dockerUp(b); docker != nil {
		add("docker exec", docker(append([]string{"run"}, stays...)...), docker(argv...), docker(rm...))
	}
	results := inTurns(b, all)
	told("exec true", results)
	ratios(b, results, "podman exec", "podman", 0)
	ratios(b, results, "docker exec", "docker", 0.3)
}

// BenchmarkVersion is the start of the client itself.
func BenchmarkVersion(b *testing.B) {
	r := inTurns(b, []contestant{says("moss --version", "moss", "--version"), says("/bin/true", "true")})
	told("--version", r)
	check(b, figure{"version-ms", median(r[0].wall), 15})
}

// says is a contestant that is one command line.
func says(name string, argv ...string) contestant {
	return contestant{name: name, run: func() error { _, err := suite.output(argv...); return err }}
}

// told prints what was measured.
func told(what string, results []result) {
	fmt.Println("\n" + what + ": median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
}

// ratios compares the first with the one of that name, by wall time and by all
// processor time, if that took part; without a limit they are only told.
func ratios(b *testing.B, results []result, name, short string, limit float64) {
	b.Helper()
	at := slices.IndexFunc(results, func(r result) bool { return r.name == name })
	if at < 0 {
		b.Logf("%s is not installed: not compared with it", short)
		return
	}
	wall, cpu := median(results[0].wall)/median(results[at].wall), median(results[0].cpu)/median(results[at].cpu)
	if limit == 0 {
		b.ReportMetric(wall, "wall/"+short)
		b.ReportMetric(cpu, "cpu/"+short)
		fmt.Printf("    %-34s %8.2f wall %.2f cpu\n", short, wall, cpu)
		return
	}
	check(b, figure{"wall/" + short, wall, limit})
	check(b, figure{"cpu/" + short, cpu, limit})
}
