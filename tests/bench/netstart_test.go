package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"
)

// BenchmarkNetworkSetup tells what a network adds to a start: the same container
// without one, on the default bridge, on one of the user's with names, and with a
// published port.
func BenchmarkNetworkSetup(b *testing.B) {
	suite.must(b, "moss", "network", "create", "bench-own")
	b.Cleanup(func() { suite.must(b, "moss", "network", "rm", "bench-own") })
	all := []contestant{starting("none", "--network", "none"), starting("bridge"), starting("own-network", "--network", "bench-own"), starting("published-port", "-p", "127.0.0.1:18300:80")}
	results := inTurns(b, all)
	told("start of a created container", results)
	for _, r := range results[1:] {
		check(b, figure{"added-ms/" + r.name, median(r.wall) - median(results[0].wall), 15})
	}
}

// starting is a start of a container that is created anew before each.
func starting(name string, options ...string) contestant {
	id := ""
	remove := func() error {
		if id == "" {
			return nil
		}
		_, err := suite.output("moss", "rm", "-f", id)
		id = ""
		return err
	}
	return contestant{name: name, clean: remove, reset: func() (err error) {
		if err = remove(); err == nil {
			id, err = suite.output(append(append([]string{"moss", "create"}, options...), "busybox", "sleep", "600")...)
		}
		return err
	}, run: func() error {
		_, err := suite.output("moss", "start", id)
		return err
	}}
}

// BenchmarkFirstByte is the time from run to the first byte of a published port,
// for a client that asks from the beginning on. It must never be a second: that
// is a SYN that was lost.
func BenchmarkFirstByte(b *testing.B) {
	var all []contestant
	for i, s := range sides(b, false) {
		all = append(all, s.firstByte(b, strconv.Itoa(18400+i)))
	}
	results := inTurns(b, all)
	told("first byte of a published port", results)
	fastest(b, results, "podman", 0.4, "podman, slirp4netns", "podman, bridge")
	fastest(b, results, "docker", 0, "docker")
	slowest := 0.0
	for _, ms := range results[0].wall {
		slowest = max(slowest, ms)
	}
	check(b, figure{"slowest-ms", slowest, 1000})
}

func (s side) firstByte(b *testing.B, port string) contestant {
	argv := append([]string{"-d", "--network", s.network, "-p", "127.0.0.1:" + port + ":8080"}, playMounts(b)...)
	argv = s.run(append(argv, "busybox", playAt, playing, "web", ":8080")...)
	id := ""
	remove := func() error {
		if id == "" {
			return nil
		}
		_, err := suite.output(s.remove(id)[0]...)
		id = ""
		return err
	}
	return contestant{name: s.name, reset: remove, clean: remove, run: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		answered := make(chan error, 1)
		go func() { answered <- poll(ctx, "127.0.0.1:"+port) }()
		var err error
		if id, err = suite.output(argv...); err != nil {
			cancel()
		}
		return errors.Join(err, <-answered)
	}}
}

// poll asks until there is an answer, as impatient clients do: anew as soon as
// the last try has failed, and no sooner.
func poll(ctx context.Context, addr string) error {
	for {
		if answers(ctx, addr) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, addr string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// manyNetworks are there when the cost of one more is measured.
const manyNetworks = 1000

// BenchmarkAmongMany makes and removes a network, and starts a container on one,
// alone and among a thousand: no cost may grow with their number.
func BenchmarkAmongMany(b *testing.B) {
	subnet := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", 140+i/256, i%256) }
	name := func(i int) string { return fmt.Sprintf("bench-many-%d", i) }
	suite.must(b, "moss", "network", "create", "bench-one")
	b.Cleanup(func() { suite.must(b, "moss", "network", "rm", "bench-one") })
	all := func() []contestant {
		return []contestant{
			says("network-create-rm", "sh", "-c", "moss network create --subnet 10.139.0.0/24 bench-more >/dev/null && moss network rm bench-more >/dev/null"),
			starting("start-on-a-network", "--network", "bench-one"),
		}
	}
	// Not in turns: making a thousand takes longer than all else.
	var few, many []result
	for done := false; b.Loop(); done = true {
		if done {
			continue
		}
		few = someRounds(b, all())
		for i := range manyNetworks {
			suite.must(b, "moss", "network", "create", "--subnet", subnet(i), name(i))
		}
		many = someRounds(b, all())
		for i := range manyNetworks {
			suite.must(b, "moss", "network", "rm", name(i))
		}
	}
	b.ReportMetric(0, "ns/op")
	told("alone", few)
	told(fmt.Sprintf("among %d networks", manyNetworks), many)
	for i := range few {
		check(b, figure{"times/" + few[i].name, median(many[i].cpu) / median(few[i].cpu), 1.5})
	}
}

func someRounds(b *testing.B, all []contestant) []result {
	b.Helper()
	results := make([]result, len(all))
	for round := range 12 {
		for i, c := range all {
			s, err := c.round()
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			results[i].name = c.name
			if round > 1 {
				results[i].add(s)
			}
		}
	}
	for _, c := range all {
		if c.clean != nil {
			if err := c.clean(); err != nil {
				b.Fatal(err)
			}
		}
	}
	return results
}
