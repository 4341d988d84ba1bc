package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// members are the containers' names in a network, by what inspect says.
func (r *remote) members(network string) ([]string, error) {
	var in struct {
		Containers map[string]struct{ Name string }
	}
	if err := r.call("GET", "/networks/"+network, nil, &in); err != nil {
		return nil, err
	}
	var out []string
	for _, c := range in.Containers {
		out = append(out, c.Name)
	}
	return out, nil
}

func (r *remote) join(network, container string, aliases ...string) error {
	return r.call("POST", "/networks/"+network+"/connect", map[string]any{"Container": container, "EndpointConfig": map[string]any{"Aliases": aliases}}, nil)
}

func (r *remote) leave(network, container string) error {
	return r.call("POST", "/networks/"+network+"/disconnect", map[string]any{"Container": container}, nil)
}

// Twenty containers on five networks, as compose makes them: while half of them
// join further networks and leave them again, and the daemon is killed in the
// middle, a stream between two of the others loses nothing and their names are
// known all the time. MOSS_LONG: 60 rounds in the place of 3 (make networks).
func TestTopology(t *testing.T) {
	leakFree(t)
	const networks, containers = 5, 20
	rounds := 3
	if os.Getenv("MOSS_LONG") != "" {
		rounds = 60
	}
	r := newRemote()
	network := func(i int) string { return fmt.Sprintf("topo%d", i%networks) }
	name := func(i int) string { return fmt.Sprintf("member%d", i) }
	t.Cleanup(func() {
		err := sideBySide(containers, func(i int) error {
			if err := r.call("DELETE", "/containers/"+name(i)+"?force=1", nil, nil); statusOf(err) != 404 {
				return err
			}
			return nil
		})
		for i := range networks {
			err = errors.Join(err, r.call("DELETE", "/networks/"+network(i), nil, nil))
		}
		if err != nil {
			t.Error(err)
		}
	})
	for i := range networks {
		if err := r.call("POST", "/networks/create", map[string]any{"Name": network(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(container, command string) (string, error) {
		return suite.output("docker", "exec", container, "sh", "-c", command)
	}
	// 0 listens, 5 sends, 10 asks for the names of both: they are in the first network. From 11 on they move about.
	commands := map[int]string{
		0:  `mkfifo /never; nc -l -p 80 <>/never >/got; touch /done; exec sleep inf`,
		5:  `until (i=0; while [ ! -e /stop ]; do echo $i; i=$((i+1)); usleep 5000; done; echo $i >/sent) | nc member0 80; do usleep 10000; done; exec sleep inf`,
		10: `until nslookup member0 && nslookup member5; do usleep 10000; done; while [ ! -e /stop ]; do for n in member0 member5; do nslookup $n >/dev/null 2>&1 || nslookup $n >/last 2>&1 || cat /last >>/bad; done; echo >>/asked; done; touch /done; exec sleep inf`,
	}
	err := sideBySide(containers, func(i int) error {
		command, ok := commands[i]
		if !ok {
			command = "exec sleep inf"
		}
		if _, err := r.create(name(i), spec{Image: "busybox", Cmd: []string{"sh", "-c", command}, StopTimeout: new(0), HostConfig: hostSpec{NetworkMode: network(i)}}); err != nil {
			return err
		}
		return r.call("POST", "/containers/"+name(i)+"/start", nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	churn := func() error {
		return sideBySide(containers-11, func(k int) error {
			i := 11 + k
			for round := range rounds {
				other := network(i + 1 + round%(networks-1))
				if err := r.join(other, name(i), "moving", fmt.Sprintf("moving%d", i)); err != nil {
					return fmt.Errorf("%s joins %s: %w", name(i), other, err)
				}
				if err := r.leave(other, name(i)); err != nil {
					return fmt.Errorf("%s leaves %s: %w", name(i), other, err)
				}
			}
			return nil
		})
	}
	if err := churn(); err != nil {
		t.Error(err)
	}
	if err := suite.kill(); err != nil {
		t.Fatal(err)
	}
	if err := churn(); err != nil {
		t.Error(err)
	}
	for i := range networks {
		got, err := r.members(network(i))
		if err != nil || len(got) != containers/networks {
			t.Errorf("in %s are %q, %v", network(i), got, err)
		}
	}
	var wg sync.WaitGroup
	for _, container := range []string{name(5), name(10)} {
		wg.Go(func() {
			if _, err := exec(container, "touch /stop"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := exec(name(0), "timeout 60 sh -c 'until [ -e /done ]; do usleep 10000; done'"); err != nil {
		t.Error(err)
	}
	if _, err := exec(name(10), "timeout 60 sh -c 'until [ -e /done ]; do usleep 10000; done'"); err != nil {
		t.Error(err)
	}
	got, err := exec(name(0), "wc -l </got")
	sent, err2 := exec(name(5), "cat /sent")
	if err = errors.Join(err, err2); err != nil || strings.TrimSpace(got) != strings.TrimSpace(sent) {
		t.Errorf("%q lines of %q came, %v", got, sent, err)
	}
	bad, err := exec(name(10), "cat /bad 2>/dev/null; wc -l </asked >&2")
	if err != nil || bad != "" {
		t.Errorf("names were not found: %s, %v", bad, err)
	}
	t.Logf("%s lines went from one to the other", strings.TrimSpace(sent))
}

// Many networks with an end point each come and go, and leave nothing. MOSS_LONG: 2,500 (make networks).
func TestManyNetworks(t *testing.T) {
	leakFree(t)
	n := 12
	if os.Getenv("MOSS_LONG") != "" {
		n = 2500
	}
	r := newRemote()
	if _, err := r.create("everywhere", spec{Image: "busybox", Cmd: []string{"sleep", "inf"}, StopTimeout: new(0), HostConfig: hostSpec{NetworkMode: "bridge"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.call("DELETE", "/containers/everywhere?force=1", nil, nil); err != nil {
			t.Error(err)
		}
	})
	if err := r.call("POST", "/containers/everywhere/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	// A container has at most 36 links: it joins each and leaves it again, while many networks are there.
	each := func(what string, fn func(i int) error) {
		t.Helper()
		for i := range n {
			if err := fn(i); err != nil {
				t.Fatalf("%s %d: %v", what, i, err)
			}
		}
	}
	network := func(i int) string { return fmt.Sprintf("many%d", i) }
	t.Cleanup(func() {
		for i := range n {
			if err := r.call("DELETE", "/networks/"+network(i), nil, nil); err != nil && statusOf(err) != 404 {
				t.Error(err)
			}
		}
	})
	each("create", func(i int) error {
		subnets := []any{map[string]string{"Subnet": fmt.Sprintf("10.%d.%d.0/24", 200+i/256, i%256)}, map[string]string{"Subnet": fmt.Sprintf("fd00:77:0:%x::/64", i)}}
		return r.call("POST", "/networks/create", map[string]any{"Name": network(i), "EnableIPv6": true, "IPAM": map[string]any{"Config": subnets}}, nil)
	})
	each("join", func(i int) error {
		if err := r.join(network(i), "everywhere"); err != nil {
			return err
		}
		return r.leave(network(i), "everywhere")
	})
	if err := suite.kill(); err != nil {
		t.Fatal(err)
	}
	each("remove", func(i int) error { return r.call("DELETE", "/networks/"+network(i), nil, nil) })
	var left []struct{ Name string }
	if err := r.call("GET", "/networks", nil, &left); err != nil || len(left) != 3 {
		t.Errorf("networks are left: %v, %v", left, err)
	}
}
