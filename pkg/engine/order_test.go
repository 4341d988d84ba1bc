package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestStartOrder(t *testing.T) {
	age := time.Now()
	made := func(id string, change func(*moss.Container)) *moss.Container {
		age = age.Add(time.Second)
		c := &moss.Container{ID: moss.ContainerID(id), Name: id, Created: age}
		c.Host.NetworkMode = moss.NetworkBridge
		if change != nil {
			change(c)
		}
		return c
	}
	compose := func(project, service, after string) func(*moss.Container) {
		return func(c *moss.Container) {
			c.Config.Labels = map[string]string{composeProject: project, composeService: service, composeDependsOn: after}
		}
	}
	all := []*moss.Container{
		made("db", nil),
		made("linked", func(c *moss.Container) {
			c.Host.Links = []moss.Link{{Container: "db", Alias: "a"}, {Container: "gone", Alias: "b"}}
		}),
		made("sharer", func(c *moss.Container) {
			c.Host.VolumesFrom = []moss.VolumesFrom{{Container: "named-db"}, {Container: "nobody"}}
		}),
		made("joined", func(c *moss.Container) { c.Host.NetworkMode, c.Host.IpcMode = "container:linked", "container:db" }),
		made("web", compose("p", "web", "store:service_healthy:true, cache:service_started:false")),
		made("store1", compose("p", "store", "")),
		made("store2", compose("p", "store", "")),
		made("other", compose("q", "store", "web")),
		made("cache", compose("p", "cache", "")),
		made("loose", func(c *moss.Container) { c.Config.Labels = map[string]string{composeDependsOn: "store"} }),
		made("egg", compose("p", "egg", "hen,egg")),
		made("hen", compose("p", "hen", "egg")),
	}
	got := startOrder(all, func(ref string) (moss.ContainerID, bool) { return "db", ref == "named-db" })
	for id, want := range map[moss.ContainerID][]moss.ContainerID{
		"db": nil, "linked": {"db"}, "sharer": {"db"}, "joined": {"db", "linked"}, "web": {"store1", "store2", "cache"},
		"other": nil, "loose": nil, "egg": {"hen"}, "hen": nil,
	} {
		if !slices.Equal(got[id], want) {
			t.Errorf("%s comes after %q, want %q", id, got[id], want)
		}
	}
}

// Whatever depends on whatever, there is an order, and only circles cost an edge.
func TestStartOrderEnds(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rnd.IntN(12)
		var all []*moss.Container
		asked := map[moss.ContainerID][]moss.ContainerID{}
		for i := range n {
			c := &moss.Container{ID: moss.ContainerID(fmt.Sprint("c", i)), Created: time.Unix(int64(rnd.IntN(4)), 0)}
			for range rnd.IntN(4) {
				other := moss.ContainerID(fmt.Sprint("c", rnd.IntN(n+1)))
				c.Host.VolumesFrom = append(c.Host.VolumesFrom, moss.VolumesFrom{Container: string(other)})
				asked[c.ID] = append(asked[c.ID], other)
			}
			all = append(all, c)
		}
		before := startOrder(all, func(ref string) (moss.ContainerID, bool) { return moss.ContainerID(ref), true })
		reaches := func(from, to moss.ContainerID) bool {
			seen := map[moss.ContainerID]bool{}
			var walk func(id moss.ContainerID) bool
			walk = func(id moss.ContainerID) bool {
				for _, next := range asked[id] {
					if next == to {
						return true
					}
					if !seen[next] {
						seen[next] = true
						if walk(next) {
							return true
						}
					}
				}
				return false
			}
			return walk(from)
		}
		var started []moss.ContainerID
		for len(started) < n {
			ready := slices.IndexFunc(all, func(c *moss.Container) bool {
				return !slices.Contains(started, c.ID) && !slices.ContainsFunc(before[c.ID], func(id moss.ContainerID) bool { return !slices.Contains(started, id) })
			})
			if ready < 0 {
				t.Fatalf("seed %d: they wait for each other: %v", seed, before)
			}
			started = append(started, all[ready].ID)
		}
		for id, want := range asked {
			for _, other := range want {
				exists := slices.ContainsFunc(all, func(c *moss.Container) bool { return c.ID == other })
				if exists && !slices.Contains(before[id], other) && !reaches(other, id) {
					t.Errorf("seed %d: %s does not come after %s, although there is no circle", seed, id, other)
				}
			}
		}
	}
}
