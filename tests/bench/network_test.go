package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mtu is what the holder's tap and moss's bridges have; peers are given it where
// they can be, or they would look slower than they are.
const mtu = "65520"

// flow is a way for something to be done by a part that prints how long it took
// itself, in nanoseconds: the client that starts it there does not count.
type flow struct {
	name  string
	argv  []string
	clean [][]string
}

// flows lets them take turns. The samples are of a unit of what is done in one
// run: of a gigabyte, of a request.
func flows(b *testing.B, all []flow, units float64) []result {
	b.Helper()
	b.Cleanup(func() {
		for _, f := range all {
			for _, argv := range f.clean {
				suite.must(b, argv...)
			}
		}
	})
	results := make([]result, len(all))
	one := func(f flow) sample {
		var took int64
		s, err := measure(func() error {
			said, err := suite.output(f.argv...)
			if err == nil {
				took, err = strconv.ParseInt(said, 10, 64)
			}
			return err
		})
		if err != nil {
			b.Fatalf("%s: %v", f.name, err)
		}
		per := func(d time.Duration) time.Duration { return time.Duration(float64(d) / units) }
		return sample{wall: per(time.Duration(took)), cpu: per(s.cpu), user: per(s.user)}
	}
	for i, f := range all {
		results[i].name = f.name
		one(f)
	}
	for first := 0; b.Loop(); first++ {
		for k := range all {
			i := (first + k) % len(all)
			results[i].add(one(all[i]))
		}
	}
	b.ReportMetric(0, "ns/op")
	return results
}

// side is an engine with the way in which its containers are on a network.
type side struct {
	name    string
	command func(argv ...string) []string
	run     func(argv ...string) []string
	network string
}

// sides are the engines with their ways; peers' bridges have moss's MTU.
func sides(b *testing.B, bridgesOnly bool) []side {
	b.Helper()
	var all []side
	for _, p := range parties(b) {
		switch p.name {
		case "moss":
			all = append(all, side{"moss", p.command, p.run, "bridge"})
		case "podman":
			// Its bridges want netavark or CNI plugins, which may not be there.
			if !bridgesOnly {
				all = append(all, side{"podman, slirp4netns", p.command, p.run, "slirp4netns"})
			}
			if _, err := suite.output(p.command("network", "create", "-o", "mtu="+mtu, "bench-wide")...); err == nil {
				b.Cleanup(func() { suite.must(b, p.command("network", "rm", "-f", "bench-wide")...) })
				all = append(all, side{"podman, bridge", p.command, p.run, "bench-wide"})
			}
		case "docker":
			suite.must(b, p.command("network", "create", "-o", "com.docker.network.driver.mtu="+mtu, "bench-wide")...)
			b.Cleanup(func() { suite.must(b, p.command("network", "rm", "bench-wide")...) })
			all = append(all, side{"docker", p.command, p.run, "bench-wide"})
		}
	}
	return all
}

// start starts a part in a container and returns what it is called.
func (s side) start(b *testing.B, options []string, part ...string) string {
	b.Helper()
	argv := append([]string{"-d", "--network", s.network}, playMounts(b)...)
	argv = append(append(append(argv, options...), "busybox", playAt, playing), part...)
	return suite.must(b, s.run(argv...)...)
}

func (s side) address(b *testing.B, id string) string {
	b.Helper()
	return suite.must(b, s.command("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)...)
}

func (s side) exec(id string, part ...string) []string {
	return s.command(append([]string{"exec", id, playAt, playing}, part...)...)
}

func (s side) remove(ids ...string) [][]string {
	return [][]string{s.command(append([]string{"rm", "-f"}, ids...)...)}
}

// gigabytes are sent in one run.
const gigabytes = 2

func sent() string { return strconv.Itoa(gigabytes << 30) }

// BenchmarkBetween sends from one container to another, beside a bare bridge with
// two veth pairs, at the same MTU.
func BenchmarkBetween(b *testing.B) {
	var all []flow
	for _, s := range sides(b, true) {
		to := s.start(b, nil, "sink", ":5001")
		from := s.start(b, nil, "sink", ":5001")
		all = append(all, flow{s.name, s.exec(from, "send", s.address(b, to)+":5001", sent()), s.remove(to, from)})
	}
	all = append(all, flow{name: "bare bridge", argv: bareBridge(b)})
	results := flows(b, all, gigabytes)
	told("a gigabyte from container to container", results)
	// At least 0.9 of its rate.
	fastest(b, results, "bare", 1/0.9, "bare bridge")
	fastest(b, results, "peers", 0, "docker", "podman, bridge")
}

// BenchmarkOut sends from a container to the host.
func BenchmarkOut(b *testing.B) {
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp4", ":0")
	if err != nil {
		b.Fatal(err)
	}
	_ = l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	sink := exec.Command(playHere(b)[0], playing, "sink", ":"+port)
	sink.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := sink.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sink.Process.Kill(); _ = sink.Wait() })
	to := net.JoinHostPort(hostAddress(b), port)
	var all []flow
	for _, s := range sides(b, false) {
		from := s.start(b, nil, "sink", ":5001")
		all = append(all, flow{s.name, s.exec(from, "send", to, sent()), s.remove(from)})
	}
	results := flows(b, all, gigabytes)
	told("a gigabyte from container to host", results)
	fastest(b, results, "peers", 1, "podman, slirp4netns", "podman, bridge", "docker")
}

// BenchmarkIn sends to a published port.
func BenchmarkIn(b *testing.B) {
	var all []flow
	for i, s := range sides(b, false) {
		port := strconv.Itoa(18100 + i)
		to := s.start(b, []string{"-p", "127.0.0.1:" + port + ":5001"}, "sink", ":5001")
		all = append(all, flow{s.name, playHere(b, "send", "127.0.0.1:"+port, sent()), s.remove(to)})
	}
	results := flows(b, all, gigabytes)
	told("a gigabyte to a published port", results)
	fastest(b, results, "peers", 1, "podman, slirp4netns", "podman, bridge", "docker")
}

// requests are made in one run, so many at once.
const (
	requests = 10_000
	atOnce   = 8
)

// BenchmarkRequests makes small requests of a published port, a connection each.
// The least there can be is rootlesskit with its own port driver and nothing else.
func BenchmarkRequests(b *testing.B) {
	var all []flow
	for i, s := range sides(b, false) {
		port := strconv.Itoa(18200 + i)
		to := s.start(b, []string{"-p", "127.0.0.1:" + port + ":8080"}, "web", ":8080")
		all = append(all, flow{s.name, playHere(b, "ask", "127.0.0.1:"+port, strconv.Itoa(requests), strconv.Itoa(atOnce)), s.remove(to)})
	}
	if port := bareRootlesskit(b); port != "" {
		all = append(all, flow{name: "bare rootlesskit", argv: playHere(b, "ask", "127.0.0.1:"+port, strconv.Itoa(requests), strconv.Itoa(atOnce))})
	}
	results := flows(b, all, requests/1000)
	told("a thousand requests of a published port", results)
	fastest(b, results, "rootlesskit", 1.1, "bare rootlesskit")
	fastest(b, results, "peers", 0, "podman, slirp4netns", "podman, bridge", "docker")
}

// bareRootlesskit serves from a namespace that Debian's rootlesskit has made; "" where there is none.
func bareRootlesskit(b *testing.B) string {
	b.Helper()
	path := filepath.Join(suite.bin, dockerRoot, "usr/bin/rootlesskit")
	if _, err := os.Stat(path); err != nil {
		var err error
		if path, err = exec.LookPath("rootlesskit"); err != nil {
			return ""
		}
	}
	const port = "18299"
	argv := append([]string{"systemd-run", "--user", "--quiet", "--collect", "--unit", prefix + "-rootlesskit", path, "--net=slirp4netns", "--mtu=" + mtu, "--port-driver=builtin", "-p", "127.0.0.1:" + port + ":8080/tcp"}, playHere(b, "web", ":8080")...)
	suite.must(b, argv...)
	b.Cleanup(func() { suite.must(b, "systemctl", "--user", "stop", prefix+"-rootlesskit") })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := suite.output(playHere(b, "ask", "127.0.0.1:"+port, "1", "1")...); err == nil {
			return port
		} else if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

// fastest compares moss, the first, with the best of some others by wall time.
func fastest(b *testing.B, results []result, short string, limit float64, others ...string) {
	b.Helper()
	best := ""
	least := 0.0
	for _, r := range results {
		for _, name := range others {
			if r.name == name && (best == "" || median(r.wall) < least) {
				best, least = r.name, median(r.wall)
			}
		}
	}
	if best == "" {
		b.Logf("%s: nobody to compare with", short)
		return
	}
	ratios(b, results, best, short, 0)
	if limit > 0 {
		check(b, figure{"time/" + short, median(results[0].wall) / least, limit})
	}
}

// hostAddress is one that containers reach the host at.
func hostAddress(b *testing.B) string {
	b.Helper()
	// Nothing is sent: the kernel tells which address it would be sent from.
	c, err := new(net.Dialer).DialContext(b.Context(), "udp4", "192.0.2.254:9")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	host, _, _ := net.SplitHostPort(c.LocalAddr().String())
	return host
}

// bareBridgeScript makes two network namespaces with a veth pair each at one
// bridge, in a third, with nothing else there; it prints a process of the second
// and goes on as the command in the first.
const bareBridgeScript = `set -e
ip link add br0 mtu $MTU type bridge
ip link set br0 up
for n in 2 3; do
  unshare --net sleep 3600 &
  until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.01; done
  ip link add v$n mtu $MTU master br0 up type veth peer name eth0 mtu $MTU netns $!
  nsenter -t $! -n ip addr add 10.9.0.$n/24 dev eth0
  nsenter -t $! -n ip link set eth0 up
  first=${first:-$!}
done
echo $!
nsenter -t $first -n "$@"
exit # so that the shell stays: the bridge's namespace goes with the last in it
`

// bareBridge is the command line of a transfer over such a bridge.
func bareBridge(b *testing.B) []string {
	b.Helper()
	argv := append([]string{"--user", "--map-root-user", "--net", "bash", "-c", bareBridgeScript, "bare"}, playHere(b, "sink", ":5001")...)
	cmd := exec.Command("unshare", argv...)
	cmd.Env = append(suite.env(), "MTU="+mtu)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := new(strings.Builder)
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with what holds the namespaces
		_ = cmd.Wait()
	})
	var pid string
	if _, err := fmt.Fscanln(out, &pid); err != nil {
		b.Fatal(errors.Join(err, errors.New(said.String())))
	}
	return append([]string{"nsenter", "-t", pid, "-U", "--preserve-credentials", "-n"}, playHere(b, "send", "10.9.0.2:5001", sent())...)
}
