package bench

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkWhere tells where the processor time of `moss run` goes, by cgroup,
// and where the wall time goes, by what the client asks for. It promises
// nothing; it is for those who look for what to save.
func BenchmarkWhere(b *testing.B) {
	const rounds = 5
	run := func() error {
		_, err := suite.output("moss", "run", "--rm", "--network", "none", "busybox", "true")
		return err
	}
	for range 3 {
		if _, err := measure(run); err != nil {
			b.Fatal(err)
		}
	}
	parts := whereParts(b)
	share := map[string]float64{}
	phases := map[string][]float64{}
	var order []string
	n := 0
	for b.Loop() {
		before, client := parts.read(b), childTime(b)
		for range rounds {
			if _, err := measure(run); err != nil {
				b.Fatal(err)
			}
		}
		client = childTime(b) - client
		after := parts.read(b)
		rest := after["all"] - before["all"] - client
		share["client (moss)"] += client.Seconds() * 1000
		for name := range parts {
			if name != "all" {
				d := after[name] - before[name]
				share[name] += d.Seconds() * 1000
				rest -= d
			}
		}
		share["rest (system's manager, bus, journal)"] += rest.Seconds() * 1000
		n += rounds
		for range rounds {
			steps, err := apiRun(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := quiet(); err != nil {
				b.Fatal(err)
			}
			for _, s := range steps {
				if !slices.Contains(order, s.name) {
					order = append(order, s.name)
				}
				phases[s.name] = append(phases[s.name], s.took.Seconds()*1000)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	fmt.Println("\nprocessor time of one moss run, by cgroup:")
	names := slices.SortedFunc(maps.Keys(share), func(x, y string) int { return cmp.Compare(share[y], share[x]) })
	for _, name := range names {
		fmt.Printf("    %-40s %7.2f ms\n", name, share[name]/float64(n))
	}
	fmt.Println("\nthe same through the API, without a client: median (lower quartile)")
	for _, name := range order {
		fmt.Printf("    %-40s wall %7.2f (%6.2f) ms\n", name, median(phases[name]), quarter(phases[name]))
	}
}

// BenchmarkVariants compares moss with itself: what a part costs shows when it
// is left out.
func BenchmarkVariants(b *testing.B) {
	variant := func(name string, argv ...string) contestant {
		return contestant{name: name, run: func() error { _, err := suite.output(argv...); return err }}
	}
	all := []contestant{
		variant("moss run, as promised", "moss", "run", "--rm", "--network", "none", "busybox", "true"),
		variant("without seccomp", "moss", "run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", "busybox", "true"),
		variant("client on one processor", "env", "GOMAXPROCS=1", filepath.Join(suite.bin, "moss"), "run", "--rm", "--network", "none", "busybox", "true"),
		variant("client without collector", "env", "GOGC=off", filepath.Join(suite.bin, "moss"), "run", "--rm", "--network", "none", "busybox", "true"),
		variant("without a log", "moss", "run", "--rm", "--network", "none", "--log-driver", "none", "busybox", "true"),
		variant("host network", "moss", "run", "--rm", "--network", "host", "busybox", "true"),
		variant("default network", "moss", "run", "--rm", "busybox", "true"),
		variant("default network and a port", "moss", "run", "--rm", "-p", "127.0.0.1::80", "busybox", "true"),
	}
	if _, err := exec.LookPath("docker"); err == nil {
		all = append(all, variant("docker's client", "docker", "run", "--rm", "--network", "none", "busybox", "true"))
	}
	results := inTurns(b, all)
	fmt.Println("\nmoss with and without: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
}

// BenchmarkSeccomp is what docker's profile costs a start: with and without it
// in turns, the difference of each turn.
func BenchmarkSeccomp(b *testing.B) {
	run := func(more ...string) func() error {
		argv := append(append([]string{"moss", "run", "--rm", "--network", "none"}, more...), "busybox", "true")
		return func() error { _, err := suite.output(argv...); return err }
	}
	results := inTurns(b, []contestant{
		{name: "moss run", run: run()},
		{name: "without seccomp", run: run("--security-opt", "seccomp=unconfined")},
	})
	fmt.Println("\nseccomp: median (lower quartile)")
	for i := range results {
		fmt.Println("   ", results[i].row())
	}
	more := func(with, without []float64) float64 {
		d := make([]float64, len(with))
		for i := range d {
			d[i] = with[i] - without[i]
		}
		return median(d)
	}
	check(b, figure{"seccomp-wall-ms", more(results[0].wall, results[1].wall), 2})
	check(b, figure{"seccomp-cpu-ms", more(results[0].cpu, results[1].cpu), 2})
}

// cgroupParts are cgroups by what they stand for.
type cgroupParts map[string]string

func whereParts(b *testing.B) cgroupParts {
	b.Helper()
	user := fmt.Sprintf("/user.slice/user-%d.slice/user@%[1]d.service", os.Getuid())
	suite.must(b, "busctl", "--user", "--no-pager", "status") // starts the bus, which nobody may have needed yet
	slice := strings.TrimSuffix(unitCgroup(b, strings.ReplaceAll(prefix, "-", "_")+".slice"), "/")
	return cgroupParts{
		"all":              widest(),
		"mossd":            unitCgroup(b, prefix+".service"),
		"holder":           unitCgroup(b, prefix+"-rootless.service"),
		"container's unit": slice,
		"user manager":     filepath.Join(user, "init.scope"),
		"user's bus":       unitCgroup(b, "dbus.service"),
	}
}

func (p cgroupParts) read(b *testing.B) map[string]time.Duration {
	b.Helper()
	out := map[string]time.Duration{}
	for name, cgroup := range p {
		var d cpuTime
		var err error
		if name == "all" {
			d, err = spent()
		} else {
			d, err = usage(cgroup)
		}
		if err != nil {
			b.Fatal(err)
		}
		out[name] = d.all
	}
	return out
}

func childTime(b *testing.B) time.Duration {
	b.Helper()
	d, err := rusage(unix.RUSAGE_CHILDREN)
	if err != nil {
		b.Fatal(err)
	}
	return d.all
}

type step struct {
	name string
	took time.Duration
}

// apiRun does what `moss run --rm` asks of the daemon, over connections that
// are there already where that is possible, and times each request.
func apiRun(ctx context.Context) (steps []step, err error) {
	sock := filepath.Join(suite.run, "moss.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}
	tr := &http.Transport{DialContext: dial}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	last := time.Now()
	mark := func(name string) {
		now := time.Now()
		steps = append(steps, step{name, now.Sub(last)})
		last = now
	}
	ask := func(method, path, body string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, method, "http://moss/v1.47"+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err == nil && resp.StatusCode >= 300 {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
		}
		return resp, err
	}
	finish := func(resp *http.Response, err error) (string, error) {
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	if _, err := finish(ask("GET", "/_ping", "")); err != nil {
		return nil, err
	}
	mark("connect and ping")
	name := fmt.Sprintf("where-%d", time.Now().UnixNano())
	_, err = finish(ask("POST", "/containers/create?name="+url.QueryEscape(name),
		`{"Image":"busybox","Cmd":["true"],"AttachStdout":true,"AttachStderr":true,"HostConfig":{"AutoRemove":true,"NetworkMode":"none"}}`))
	if err != nil {
		return nil, err
	}
	mark("create")
	raw, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	fmt.Fprintf(raw, "POST /v1.47/containers/%s/attach?stdout=1&stderr=1&stream=1 HTTP/1.1\r\nHost: moss\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", name)
	in := bufio.NewReader(raw)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("attach: %s", resp.Status)
	}
	mark("attach")
	waited, err := ask("POST", "/containers/"+name+"/wait?condition=removed", "")
	if err != nil {
		return nil, err
	}
	mark("wait (headers)")
	if _, err := finish(ask("POST", "/containers/"+name+"/start", "")); err != nil {
		return nil, err
	}
	mark("start")
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	mark("end of the streams")
	if _, err := finish(waited, nil); err != nil {
		return nil, err
	}
	mark("removed")
	return steps, nil
}
