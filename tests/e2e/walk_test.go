package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A random walk: clients do whatever comes to their mind to containers of their
// own and to some that they share, while the daemon is killed with -9 every now
// and then. Each compares its containers with a model of what docker promises
// after every step; when all stand still, the machine is compared with what the
// engine says of it. MOSS_SEED repeats a walk, as far as instants can be
// repeated; MOSS_LONG is the time to walk for, MOSS_RUNTIME the containers'
// runtime (make walk TIME=5m RUNTIME=crun).
func TestWalk(t *testing.T) {
	if os.Getenv("MOSS_LONG") == "" {
		t.Skip("a suite of its own: make walk")
	}
	leakFree(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MOSS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	length := 10 * time.Minute
	if d, err := time.ParseDuration(os.Getenv("MOSS_LONG")); err == nil {
		length = d
	}
	runtime := os.Getenv("MOSS_RUNTIME") // the engine's own where it is empty
	for i := range kinds {
		kinds[i].HostConfig.Runtime = runtime
	}
	t.Logf("MOSS_SEED=%d MOSS_RUNTIME=%s", seed, runtime)
	w := newWalk(t, seed)
	defer w.clear()
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		w.lap(min(10*time.Second, time.Until(end)))
		w.check()
	}
	t.Logf("%d operations, %d of them cut short by %d kills of the daemon; %s", w.steps.Load(), w.cut.Load(), w.kills, w.tally())
	if w.kills > 0 && w.cut.Load() == 0 && length >= time.Minute {
		t.Error("no kill hit an operation")
	}
}

// walkers is how many clients there are, ownEach how many containers each has,
// and sharedAll how many they share.
const (
	walkers   = 8
	ownEach   = 3
	sharedAll = 3
)

type walk struct {
	t      *testing.T
	r      *remote
	chaos  *rand.Rand
	each   []*walker
	stored int // descriptors that a running container has in the manager's store
	kills  int
	laps   int

	steps, cut atomic.Int64
	mu         sync.Mutex
	done       map[string]int // operations by name and answer
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{t: t, r: newRemote(), chaos: rand.New(rand.NewPCG(seed, 1<<32)), done: map[string]int{}}
	for i := range walkers {
		c := &walker{walk: w, n: i, rnd: rand.New(rand.NewPCG(seed, uint64(i))), r: newRemote()}
		for j := range ownEach {
			c.own = append(c.own, &model{name: fmt.Sprintf("w%d-%d", i, j)})
		}
		w.each = append(w.each, c)
	}
	base := w.storedNow()
	id, err := w.r.create("", kinds[0].spec)
	if err == nil {
		err = w.r.call("POST", "/containers/"+id+"/start", nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "descriptors are stored", func() bool { return w.storedNow() > base })
	w.stored = w.storedNow() - base
	if err := w.r.call("DELETE", "/containers/"+id+"?force=1", nil, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// lap lets the clients walk for a while, and kills the daemon at random instants.
func (w *walk) lap(length time.Duration) {
	w.laps++
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range w.each {
		wg.Go(func() {
			for c.trouble == nil {
				select {
				case <-stop:
					return
				default:
					c.step()
				}
			}
		})
	}
	end := time.After(length)
	for over := false; !over; {
		select {
		case <-time.After(time.Duration(200+w.chaos.IntN(4000)) * time.Millisecond):
			if pid, err := suite.pid(); err == nil && pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				w.kills++
			}
		case <-end:
			over = true
		}
		for _, c := range w.each {
			over = over || c.failed.Load()
		}
	}
	close(stop)
	wg.Wait()
	for _, c := range w.each {
		if c.trouble != nil {
			w.t.Errorf("client %d: %v\n  %s", c.n, c.trouble, strings.Join(c.trace, "\n  "))
		}
	}
	if w.t.Failed() {
		journal, _ := suite.output("journalctl", "--user", "--no-pager", "-n", "150", "-o", "short-precise", "-u", prefix+".service")
		w.t.Log(journal)
	}
}

func (w *walk) tally() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for what, n := range w.done {
		all = append(all, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// storedNow is how many descriptors the manager keeps for the daemon.
func (w *walk) storedNow() int {
	n, err := strconv.Atoi(must(w.t, "systemctl", "--user", "show", "--property=NFileDescriptorStore", "--value", prefix+".service"))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// clear removes what is left.
func (w *walk) clear() {
	var all []struct{ ID string }
	if err := w.r.call("GET", "/containers/json?all=1", nil, &all); err != nil {
		w.t.Error(err)
	}
	for _, c := range all {
		if err := w.r.call("DELETE", "/containers/"+c.ID+"?force=1", nil, nil); err != nil && statusOf(err) != http.StatusNotFound {
			w.t.Error(err)
		}
	}
	until(w.t, "no descriptor is stored", func() bool { return w.storedNow() == 0 })
}
