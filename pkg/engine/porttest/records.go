package porttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// RecordsRig is what the contract of [engine.Records] is tried on: an empty store.
type RecordsRig interface {
	Records() engine.Records
	// Restart is a daemon that was killed and started again.
	Restart(t *testing.T)
	// Reboot is the loss of power.
	Reboot(t *testing.T)
	// Break makes the record of a container one that cannot be read, whether there is one or not.
	Break(t *testing.T, id moss.ContainerID)
}

// Records runs the contract suite of [engine.Records]. open is called once a test.
func Records(t *testing.T, open func(t *testing.T) RecordsRig) {
	t.Run("what is put comes back", func(t *testing.T) {
		r := open(t)
		stop := 5
		c := moss.Container{
			ID: "a", Name: "web", Created: time.Now().UTC(), Image: "sha256:x", State: moss.StateRunning, Intent: moss.IntentStop,
			Config: moss.ContainerConfig{Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}, StopTimeout: &stop},
			Host:   moss.HostConfig{Mounts: []moss.MountPoint{{Source: "/s", Target: "/t"}}},
			Run:    moss.Run{PID: 7, StartedAt: time.Now().UTC(), Frozen: true}, Network: &moss.Attachment{Mode: moss.NetworkBridge},
		}
		for _, durable := range []bool{true, false} {
			must(t, r.Records().Put(&c, durable))
			r.Restart(t)
			all, bad, err := r.Records().Load()
			must(t, err)
			if len(all) != 1 || len(bad) != 0 {
				t.Fatalf("%d records, %v", len(all), bad)
			}
			got := *all[0]
			if fmt.Sprintf("%+v %v %+v", got.Run, *got.Config.StopTimeout, *got.Network) != fmt.Sprintf("%+v %v %+v", c.Run, *c.Config.StopTimeout, *c.Network) ||
				got.Name != c.Name || !got.Created.Equal(c.Created) || got.Image != c.Image || got.State != c.State || got.Intent != c.Intent ||
				got.Config.Labels["k"] != "v" || !slices.Equal(got.Config.Env, c.Config.Env) || !slices.Equal(got.Host.Mounts, c.Host.Mounts) {
				t.Errorf("%+v came back as %+v", c, got)
			}
		}
	})
	t.Run("the newest wins and what is not durable dies with the boot", func(t *testing.T) {
		r := open(t)
		put := func(name string, durable bool) {
			t.Helper()
			must(t, r.Records().Put(&moss.Container{ID: "a", Name: name}, durable))
			wantRecords(t, r, name)
		}
		put("first", true)
		put("second", false)
		put("third", true)
		put("fourth", false)
		r.Restart(t)
		wantRecords(t, r, "fourth")
		r.Reboot(t)
		wantRecords(t, r, "third")
		must(t, r.Records().Put(&moss.Container{ID: "b", Name: "short"}, false))
		wantRecords(t, r, "short", "third")
		r.Reboot(t)
		wantRecords(t, r, "third")
	})
	t.Run("delete", func(t *testing.T) {
		r := open(t)
		must(t, r.Records().Put(&moss.Container{ID: "a", Name: "a"}, true))
		must(t, r.Records().Put(&moss.Container{ID: "a", Name: "a2"}, false))
		must(t, r.Records().Put(&moss.Container{ID: "b", Name: "b"}, true))
		for range 2 { // what is gone is no error
			must(t, r.Records().Delete("a"))
			wantRecords(t, r, "b")
		}
		must(t, r.Records().Delete("never"))
		r.Restart(t)
		wantRecords(t, r, "b")
		r.Reboot(t)
		wantRecords(t, r, "b")
	})
	t.Run("what cannot be read hides nothing and stays", func(t *testing.T) {
		r := open(t)
		must(t, r.Records().Put(&moss.Container{ID: "good", Name: "good"}, true))
		must(t, r.Records().Put(&moss.Container{ID: "bad", Name: "bad"}, true))
		r.Break(t, "bad")
		for range 2 {
			all, bad, err := r.Records().Load()
			must(t, err)
			if len(all) != 1 || all[0].Name != "good" || len(bad) != 1 || bad["bad"] == nil {
				t.Errorf("%v, bad %v", all, bad)
			}
			r.Restart(t)
		}
	})
	t.Run("a record is kept as it was", func(t *testing.T) {
		r := open(t)
		c := moss.Container{ID: "a", Name: "before"}
		must(t, r.Records().Put(&c, true))
		c.Name = "after"
		wantRecords(t, r, "before")
	})
	t.Run("many at once", func(t *testing.T) {
		r := open(t)
		var wg sync.WaitGroup
		var want []string
		for n := range 16 {
			id := moss.ContainerID(fmt.Sprintf("%02d", n))
			if n%2 == 0 {
				want = append(want, string(id)+"-9")
			}
			wg.Go(func() {
				for i := range 10 {
					if err := r.Records().Put(&moss.Container{ID: id, Name: fmt.Sprintf("%s-%d", id, i)}, i%3 == 0); err != nil {
						t.Error(err)
					}
				}
				if n%2 == 1 {
					if err := r.Records().Delete(id); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		r.Restart(t)
		wantRecords(t, r, want...)
	})
}

func wantRecords(t *testing.T, r RecordsRig, want ...string) {
	t.Helper()
	all, bad, err := r.Records().Load()
	must(t, err)
	var got []string
	for _, c := range all {
		got = append(got, c.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(bad) > 0 {
		t.Fatalf("records %s, bad %v; want %s", strings.Join(got, " "), bad, strings.Join(want, " "))
	}
}
