package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/registry"
)

// Containers start while a large image comes in.
func TestRunsDuringPull(t *testing.T) {
	leakFree(t)
	before := stored(t)
	o := newOrigin(t)
	layers := registry.Layers(8, 8<<20)
	layers[2].Files, layers[6].Files = 4000, 8000
	o.Remote().Push(t, "large", "1", registry.Image{Layers: layers})
	runs := func(each func()) (all []time.Duration) {
		for range 20 {
			begun := time.Now()
			if out, err := suite.output("docker", "run", "--rm", "busybox", "true"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			all = append(all, time.Since(begun))
			each()
		}
		slices.Sort(all)
		return all
	}
	alone := runs(func() {})
	t.Logf("20 runs alone: median %s, slowest %s", alone[10], alone[19])
	beside := func() (meanwhile int) {
		c := begin(t, "docker", "pull", "-q", o.ref("large:1"))
		n := o.proxy.Count("GET", "/blobs/")
		until(t, "the pull begins", func() bool { return o.proxy.Count("GET", "/blobs/") > n+3 })
		all := runs(func() {
			select {
			case <-c.done:
			default:
				meanwhile++
			}
		})
		if out, err := c.wait(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		must(t, "docker", "rmi", o.ref("large:1"))
		t.Logf("beside a pull: median %s, slowest %s; %d ended before it", all[10], all[19], meanwhile)
		return meanwhile
	}
	// As fast as it goes: who unpacks has both processors; it is only that nothing fails.
	beside()
	emptied(t, before)
	// As a network would have it. No run waits for the pull, which takes some ten seconds.
	o.proxy.Fault(registry.Fault{Path: "/blobs/", Rate: 4 << 20})
	if n := beside(); n < 3 {
		t.Errorf("%d runs ended before the pull", n)
	}
	emptied(t, before)
}

// Pulls, runs, removals and prunes at the same time: each gets what it asked
// for, or is told that somebody was faster.
func TestPullsRunsAndPrunes(t *testing.T) {
	leakFree(t)
	before := stored(t)
	o := newOrigin(t)
	must(t, "docker", "tag", "busybox", o.ref("box:0"))
	must(t, "docker", "push", "-q", o.ref("box:0"))
	for i := range 3 {
		layers := append(registry.Layers(1, 1<<20), registry.Layer{Size: 4 << 20, Seed: 7})
		slices.Reverse(layers)
		o.Remote().Push(t, "mixed", fmt.Sprint(i), registry.Image{Layers: layers})
	}
	must(t, "docker", "rmi", o.ref("box:0"))
	end := time.Now().Add(10 * time.Second)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := map[string]int{}
	loop := func(name string, fine []string, args ...string) {
		wg.Go(func() {
			for time.Now().Before(end) {
				_, err := suite.output(args[0], args[1:]...)
				if err != nil && !slices.ContainsFunc(fine, func(part string) bool { return strings.Contains(err.Error(), part) }) {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				done[name]++
				if err != nil {
					done[name+" refused"]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range 3 {
		ref := o.ref(fmt.Sprint("mixed:", i))
		loop("pull", nil, "docker", "pull", "-q", ref)
		loop("rmi", []string{"No such image"}, "docker", "rmi", "-f", ref)
	}
	loop("run", []string{"No such image: " + o.ref("box:0")}, "docker", "run", "--rm", "--pull=always", o.ref("box:0"), "true")
	loop("prune", []string{"a prune operation is already running"}, "docker", "image", "prune", "-a", "-f")
	loop("df", nil, "docker", "system", "df")
	wg.Wait()
	t.Log(done)
	for _, name := range []string{"pull", "rmi", "run", "prune", "df"} {
		if done[name] <= done[name+" refused"] {
			t.Errorf("no %s went well", name)
		}
	}
	must(t, "docker", "image", "prune", "-a", "-f")
	if out := must(t, "docker", "images", "-q"); out != "" {
		t.Errorf("there are images: %s", out)
	}
	must(t, "docker", "load", "-q", "-i", suite.top+"/busybox.tar")
	emptied(t, before)
}

// An index that can be searched, as docker's; it answers as version 1 has it.
func TestSearch(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/search":
		case "/v2/":
			return
		default:
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"num_results":2,"query":%q,"results":[
			{"name":"ours/%[2]s","description":"made by us","star_count":7,"is_official":false},
			{"name":"%[2]s","description":"the official one","star_count":70,"is_official":true}]}`, r.FormValue("q"), r.FormValue("q"))
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	for _, client := range []string{"docker", "moss"} {
		out := must(t, client, "search", "--no-trunc", host+"/thing")
		if !strings.Contains(out, host+"/ours/thing") || !strings.Contains(out, "made by us") || !strings.Contains(out, "[OK]") {
			t.Errorf("%s search says:\n%s", client, out)
		}
		out = must(t, client, "search", "--format", "{{.Name}} {{.StarCount}}", "--filter", "stars=10", host+"/thing")
		if out != host+"/thing 70" {
			t.Errorf("%s search with a filter says:\n%s", client, out)
		}
		if _, err := suite.output(client, "search", "127.0.0.1:1/thing"); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s search at a dead index: %v", client, err)
		}
	}
}
