package bench

import (
	"fmt"
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
	all := []contestant{
		{name: "moss run", run: func() error {
			_, err := suite.output("moss", "run", "--rm", "--network", "none", "busybox", "true")
			return err
		}},
		{name: "crun run, systemd-run", run: crun.bySystemdRun},
		{name: "crun run, unit over D-Bus", run: func() error { return crun.byDBus(conn) }},
	}
	if podmanUp(b) {
		all = append(all, contestant{name: "podman run", run: podmanRun})
	} else {
		b.Log("podman is not installed: not compared with it")
	}
	results := inTurns(b, all)
	fmt.Println("\nrun --rm --network none busybox true: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	moss := results[0]
	// systemd-run is a command line, as moss is; the other is told beside it.
	for i, limit := range []float64{1.8, 0, 0.35} {
		if i+1 >= len(results) {
			break
		}
		peer := results[i+1]
		wall, cpu := median(moss.wall)/median(peer.wall), median(moss.cpu)/median(peer.cpu)
		name := []string{"crun", "crun-dbus", "podman"}[i]
		if limit == 0 {
			b.ReportMetric(wall, "wall/"+name)
			b.ReportMetric(cpu, "cpu/"+name)
			fmt.Printf("    %-34s %8.2f wall %.2f cpu\n", name, wall, cpu)
			continue
		}
		check(b, figure{"wall/" + name, wall, limit})
		check(b, figure{"cpu/" + name, cpu, limit})
	}
}

// BenchmarkVersion is the start of the client itself.
func BenchmarkVersion(b *testing.B) {
	r := inTurns(b, []contestant{
		{name: "moss --version", run: func() error { _, err := suite.output("moss", "--version"); return err }},
		{name: "/bin/true", run: func() error { _, err := suite.output("true"); return err }},
	})
	fmt.Println()
	for i := range r {
		fmt.Println("   ", r[i].row())
	}
	check(b, figure{"version-ms", median(r[0].wall), 15})
}
