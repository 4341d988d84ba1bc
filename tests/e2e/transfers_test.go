package e2e

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moss-containers/moss/tests/registry"
)

// Clients who pull the same image share one transfer; the last who leaves ends it.
func TestSharedPull(t *testing.T) {
	leakFree(t)
	before := stored(t)
	o := newOrigin(t)
	made := o.Remote().Push(t, "shared", "1", registry.Image{Layers: registry.Layers(3, 2<<20)})
	ref := o.ref("shared:1")
	join := func() (all []*client) {
		o.proxy.Heal()
		o.proxy.Fault(registry.Fault{Path: "/blobs/", Rate: 1 << 20})
		for range 5 {
			all = append(all, begin(t, "docker", "pull", ref))
		}
		until(t, "all clients see a layer come in", func() bool {
			for _, c := range all {
				// Who joins later is told the latest of each layer, which a client prints on a terminal only.
				if c.count(": Pulling from shared") < 1 {
					return false
				}
			}
			return o.proxy.Count("GET", "/blobs/"+made.Layers[0].Digest.String()) > 0
		})
		return all
	}

	t.Run("one leaves", func(t *testing.T) {
		all := join()
		interrupt(t, all[0])
		for _, c := range all[1:] {
			if out, err := c.wait(); err != nil || c.count(": Pull complete") != 3 || !strings.Contains(out, "Digest: "+made.Digest.String()) {
				t.Errorf("%v: %s", err, out)
			}
		}
		for _, l := range made.Layers {
			if bytes, times := o.sent(l.Digest.String()); bytes != l.Size || times != 1 {
				t.Errorf("layer of %d bytes: %d were sent in %d answers", l.Size, bytes, times)
			}
		}
		if n := o.proxy.Count("GET", "/blobs/"+made.Config.String()); n != 1 {
			t.Errorf("the configuration was asked for %d times", n)
		}
		if n := o.proxy.Count("GET", "/manifests/"); n != 1 {
			t.Errorf("the manifest was asked for %d times", n)
		}
		must(t, "docker", "rmi", ref)
		emptied(t, before)
	})
	t.Run("all leave", func(t *testing.T) {
		all := join()
		until(t, "bytes of a layer", func() bool { n, _ := o.sent(made.Layers[0].Digest.String()); return n > 0 })
		for _, c := range all {
			interrupt(t, c)
		}
		until(t, "the connections end", func() bool {
			for _, r := range o.proxy.Seen("GET", "/blobs/") {
				if !r.Over {
					return false
				}
			}
			return true
		})
		for _, l := range made.Layers {
			if bytes, _ := o.sent(l.Digest.String()); bytes >= l.Size {
				t.Errorf("all of a layer was sent: %d bytes", bytes)
			}
		}
		emptied(t, before)
		if out := must(t, "docker", "images", "-q", o.ref("shared")); out != "" {
			t.Errorf("there is an image: %s", out)
		}
		idle(t)
	})
	must(t, "docker", "pull", ref)
	must(t, "docker", "rmi", ref)
}

// interrupt is Ctrl-C at a client.
func interrupt(t *testing.T, c *client) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if out, err := c.wait(); err == nil {
		t.Errorf("the pull went well although it was interrupted: %s", out)
	}
}

// idle waits until the daemon uses no processor time.
func idle(t *testing.T) {
	t.Helper()
	pid, err := suite.pid()
	if err != nil {
		t.Fatal(err)
	}
	used := func() (ticks int) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		for _, f := range strings.Fields(rest)[11:13] {
			n, _ := strconv.Atoi(f)
			ticks += n
		}
		return ticks
	}
	last, same := used(), 0
	until(t, "the daemon rests", func() bool {
		now := used()
		if same++; now != last {
			last, same = now, 0
		}
		return same > 100 // a second
	})
}
