package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/registry"
)

// Clients who push the same image share the sending of its layers; when the
// last has left, it ends, and the next push sends what is missing.
func TestSharedPush(t *testing.T) {
	leakFree(t)
	before := stored(t)
	from, o := newOrigin(t), newOrigin(t)
	from.Remote().Push(t, "pushed", "1", registry.Image{Layers: registry.Layers(3, 1<<20)})
	must(t, "docker", "pull", "-q", from.ref("pushed:1"))
	ref := o.ref("pushed:1")
	must(t, "docker", "tag", from.ref("pushed:1"), ref)
	join := func(slow registry.Fault) (all []*client) {
		o.proxy.Heal()
		slow.Method = "PATCH"
		o.proxy.Fault(slow)
		for range 4 {
			all = append(all, begin(t, "docker", "push", ref))
		}
		until(t, "all clients push", func() bool {
			for _, c := range all {
				if c.count(": Preparing") < 3 {
					return false
				}
			}
			return o.proxy.Count("PATCH", "") >= 3
		})
		return all
	}

	for _, c := range join(registry.Fault{Delay: 2 * time.Second}) {
		interrupt(t, c)
	}
	until(t, "the connections end", func() bool {
		for _, r := range o.proxy.Seen("PATCH", "") {
			if !r.Over {
				return false
			}
		}
		return true
	})
	idle(t)
	if _, _, err := o.Remote().Manifest("pushed", "1"); err == nil {
		t.Error("the registry has an image that was not pushed to its end")
	}

	hold := make(chan struct{})
	all := join(registry.Fault{Hold: hold})
	// A slow registry holds up nobody else.
	must(t, "docker", "run", "--rm", "busybox", "true")
	must(t, "docker", "images")
	for _, r := range o.proxy.Seen("PATCH", "") {
		if r.Over {
			t.Error("a container's run took longer than a push")
		}
	}
	close(hold)
	digest := ""
	for _, c := range all {
		out, err := c.wait()
		_, now, _ := strings.Cut(out, "1: digest: ")
		if digest == "" {
			digest = now
		}
		if err != nil || now == "" || now != digest || c.count(": Pushed") != 3 {
			t.Errorf("%v: %s", err, out)
		}
	}
	if n := o.proxy.Count("PATCH", ""); n != 4 {
		t.Errorf("three layers and a configuration were sent in %d requests", n)
	}
	o.proxy.Heal()
	if out := must(t, "docker", "push", ref); strings.Count(out, ": Layer already exists") != 3 || !strings.Contains(out, digest) || o.proxy.Count("PATCH", "") != 0 {
		t.Errorf("again: %s", out)
	}
	must(t, "docker", "rmi", ref, from.ref("pushed:1"))
	emptied(t, before)
}
