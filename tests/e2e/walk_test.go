package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
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
// repeated; MOSS_LONG is the time to walk for (make walk TIME=5m).
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
	t.Logf("MOSS_SEED=%d", seed)
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

// check compares the machine, on which nothing happens, with what the engine
// says of it.
func (w *walk) check() {
	var wrong []string
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		wrong = w.wrongs()
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, s := range wrong {
		w.t.Errorf("after lap %d: %s", w.laps, s)
	}
	for _, c := range w.each {
		w.t.Logf("client %d:\n  %s", c.n, strings.Join(c.trace, "\n  "))
	}
	journal, _ := suite.output("journalctl", "--user", "--no-pager", "-n", "300", "-o", "short-precise", "-u", prefix+".service")
	w.t.Log(journal)
}

func (w *walk) wrongs() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var list []struct {
		ID    string
		Names []string
		State string
	}
	if err := w.r.call("GET", "/containers/json?all=1", nil, &list); err != nil {
		return []string{err.Error()}
	}
	there, err := suite.census()
	if err != nil {
		return []string{err.Error()}
	}
	names, live, known := map[string]string{}, map[string]bool{}, map[string]bool{}
	stored := 0
	for _, c := range list {
		known[c.ID] = true
		for _, n := range c.Names {
			if names[n] != "" {
				say("%s is the name of %s and of %s", n, names[n], c.ID)
			}
			names[n] = c.ID
		}
		i, err := w.r.inspect(c.ID)
		if err != nil {
			say("%s: %v", c.ID, err)
			continue
		}
		if i.State.Status != c.State {
			say("%s is %s in the list and %s", i.Name, c.State, i.State.Status)
		}
		unit := prefix + "-" + c.ID[:12] + ".service"
		switch c.State {
		case "running", "paused":
			live[c.ID] = true
			stored += w.stored
			if main := must(w.t, "systemctl", "--user", "show", "--property=MainPID", "--value", unit); main != strconv.Itoa(i.State.Pid) {
				say("%s has pid %d, and its unit %s", i.Name, i.State.Pid, main)
			}
			if syscall.Kill(i.State.Pid, 0) != nil {
				say("%s is %s without its process %d", i.Name, c.State, i.State.Pid)
			}
		case "created", "exited":
			if i.State.Pid != 0 {
				say("%s is %s and has pid %d", i.Name, c.State, i.State.Pid)
			}
		default:
			say("%s is %s: %s", i.Name, c.State, i.State.Error)
		}
	}
	for kind, all := range there {
		for _, name := range all {
			id := ""
			switch kind {
			case "mount":
				_, id, _ = strings.Cut(name, "/overlay/")
				id, _, _ = strings.Cut(id, "/")
				if id == "" {
					_, id, _ = strings.Cut(name, prefix+"/netns/")
				}
			case "unit", "cgroup":
				id = strings.TrimSuffix(strings.TrimPrefix(name, prefix+"-"), ".service")
				if strings.HasPrefix(id, "rootless") {
					id = ""
				}
			case "record":
				if !known[name] {
					say("there is a record %s", name)
				}
			default:
				id = name
			}
			if id != "" && !slices.ContainsFunc(list, func(c struct {
				ID    string
				Names []string
				State string
			},
			) bool {
				return live[c.ID] && strings.HasPrefix(c.ID, id)
			}) {
				say("of no running container: %s %s", kind, name)
			}
		}
	}
	if now := w.storedNow(); now != stored {
		say("%d descriptors are stored, for %d running containers it should be %d", now, len(live), stored)
	}
	entries := strings.FieldsSeq(inData(w.t, "ls containers"))
	for id := range entries {
		if !known[id] {
			say("a directory of a container that is not there: %s", id)
		}
	}
	return wrong
}

// kind is a sort of container.
type kind struct {
	spec
	ends   int // what it ends with by itself; -1 where it does not
	starts int // how often its policy starts it again before that
}

// Each ends with 3 on SIGTERM, once it has come to setting the trap.
const lasting = `trap 'exit 3' TERM; sleep inf & wait`

var kinds = []kind{
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", lasting}, HostConfig: hostSpec{NetworkMode: "none"}}, ends: -1},
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", lasting}, HostConfig: hostSpec{
		PortBindings: map[string][]map[string]string{"80/tcp": {{"HostIp": "127.0.0.1"}}},
	}}, ends: -1},
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", lasting}, HostConfig: hostSpec{NetworkMode: "none", AutoRemove: true}}, ends: -1},
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", "exit 5"}, HostConfig: hostSpec{NetworkMode: "none"}}, ends: 5},
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", "usleep 20000; exit 4"}, HostConfig: hostSpec{
		NetworkMode: "none", RestartPolicy: map[string]any{"Name": "on-failure", "MaximumRetryCount": 2},
	}}, ends: 4, starts: 2},
	{spec: spec{Image: "busybox", Cmd: []string{"sh", "-c", lasting}, HostConfig: hostSpec{
		NetworkMode: "none", RestartPolicy: map[string]any{"Name": "unless-stopped"},
	}}, ends: -1},
}

// model is what one container has to be.
type model struct {
	name   string
	id     string // "" while there is none
	kind   kind
	state  string // created, running, paused, exited
	codes  []int  // what it may have ended with
	ran    bool
	file   string // what was copied in last
	policy bool   // its policy starts it when its process ends by itself
}

func (m *model) there() bool { return m.id != "" }
func (m *model) live() bool  { return m.state == "running" || m.state == "paused" }

// walker is one client.
type walker struct {
	*walk
	n       int
	rnd     *rand.Rand
	r       *remote
	own     []*model
	trace   []string
	trouble error
	failed  atomic.Bool
	names   int
}

func (c *walker) note(format string, args ...any) {
	c.trace = append(c.trace, time.Now().Format("15:04:05.000000 ")+fmt.Sprintf(format, args...))
	if len(c.trace) > 60 {
		c.trace = c.trace[1:]
	}
}

func (c *walker) fail(format string, args ...any) {
	if c.trouble == nil {
		c.trouble = fmt.Errorf(format, args...)
		c.failed.Store(true)
	}
}

// step does one thing. The numbers are drawn first: what is done does not
// depend on what was.
func (c *walker) step() {
	which, what, detail := c.rnd.IntN(10), c.rnd.IntN(len(operations)), c.rnd.IntN(1000)
	c.steps.Add(1)
	if which == 0 {
		c.shared(what, detail)
		return
	}
	m := c.own[which%len(c.own)]
	op := operations[what]
	c.note("%s (%s): %s %d", m.name, m.state, op.name, detail)
	op.do(c, m, detail)
	if c.trouble == nil {
		c.look(m)
	}
}

// try makes a request on behalf of an operation until the daemon has answered
// it. first says that it is the first answer: later ones may be to something
// that had been done already when the daemon was killed.
func (c *walker) try(what, method, path string, body, answer any) (err error, first bool) {
	for first = true; ; first = false {
		err := c.r.call(method, path, body, answer)
		status := statusOf(err)
		c.mu.Lock()
		c.done[what+" "+strconv.Itoa(status)]++
		c.mu.Unlock()
		switch {
		case status >= 500:
			c.fail("%s: %v", what, err)
			return err, first
		case status != 0:
			c.note("  %s: %d %v", what, status, err)
			return err, first
		}
		c.cut.Add(1)
		c.note("  %s: cut short: %v", what, err)
		if !c.awaitDaemon() {
			return err, first
		}
	}
}

func (c *walker) awaitDaemon() bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if c.r.call("GET", "/_ping", nil, new([]byte)) == nil {
			return true
		}
		if time.Now().After(deadline) {
			c.fail("the daemon does not come back")
			return false
		}
	}
}

// want checks an answer; also are those that a repetition may get besides.
func (c *walker) want(what string, err error, first bool, want int, also ...int) bool {
	if c.trouble != nil {
		return false
	}
	got := statusOf(err)
	if got == want || (!first && slices.Contains(also, got)) {
		return got == want
	}
	c.fail("%s: %d (%v), want %d", what, got, err, want)
	return false
}

// look compares a container with its model. What comes by itself is waited for.
func (c *walker) look(m *model) {
	var last string
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		i, err := c.r.inspect(m.name)
		status := statusOf(err)
		switch {
		case status == 0:
			if !c.awaitDaemon() {
				return
			}
			continue
		case !m.there():
			if status == http.StatusNotFound {
				return
			}
			last = fmt.Sprintf("it is there: %+v", i.State)
		case err != nil:
			last = err.Error()
		default:
			if last = m.differs(i); last == "" {
				return
			}
		}
		if time.Now().After(deadline) {
			c.fail("%s should be %q (codes %v): %s", m.name, m.state, m.codes, last)
			return
		}
	}
}

// differs says in what a container is not what it has to be.
func (m *model) differs(i seen) string {
	switch {
	case i.ID != m.id:
		return fmt.Sprintf("its id is %s, not %s", i.ID, m.id)
	case i.Name != m.name:
		return "its name is " + i.Name
	case i.State.Status != m.state:
		return fmt.Sprintf("it is %+v", i.State)
	case m.state == "exited" && !slices.Contains(m.codes, i.State.ExitCode):
		return fmt.Sprintf("it has ended with %d: %+v", i.State.ExitCode, i.State)
	case m.state == "exited" && m.kind.starts > 0 && slices.Equal(m.codes, []int{m.kind.ends}) && i.RestartCount != m.kind.starts:
		return fmt.Sprintf("it was started again %d times", i.RestartCount)
	case m.live() && (i.State.Pid == 0 || syscall.Kill(i.State.Pid, 0) != nil):
		return fmt.Sprintf("it has no process: %+v", i.State)
	}
	return ""
}

func (m *model) begins() {
	m.state, m.ran = "running", true
	if m.kind.ends >= 0 { // and ends
		m.ends(m.kind.ends)
	}
}

func (m *model) ends(codes ...int) {
	m.state, m.codes = "exited", codes
	if m.kind.HostConfig.AutoRemove {
		m.gone()
	}
}

func (m *model) gone() { m.id, m.state, m.ran, m.file, m.policy = "", "", false, "", false }

type operation struct {
	name string
	do   func(c *walker, m *model, detail int)
}

var operations = []operation{
	{"create", (*walker).opCreate},
	{"create", (*walker).opCreate},
	{"start", (*walker).opStart},
	{"start", (*walker).opStart},
	{"start", (*walker).opStart},
	{"run", (*walker).opRun},
	{"stop", (*walker).opStop},
	{"restart", (*walker).opRestart},
	{"kill", (*walker).opKill},
	{"term", (*walker).opTerm},
	{"pause", (*walker).opPause},
	{"unpause", (*walker).opUnpause},
	{"rename", (*walker).opRename},
	{"update", (*walker).opUpdate},
	{"wait", (*walker).opWait},
	{"rm", (*walker).opRemove},
	{"rm -f", (*walker).opForceRemove},
	{"exec", (*walker).opExec},
	{"logs", (*walker).opLogs},
	{"cp", (*walker).opCopy},
	{"prune", (*walker).opPrune},
	{"unit stop", (*walker).opUnitStop},
	{"kill -9", (*walker).opKillProcess},
}

func (c *walker) at(m *model, rest string) string { return "/containers/" + m.name + rest }

func (c *walker) opCreate(m *model, detail int) {
	k := kinds[detail%len(kinds)]
	s := k.spec
	s.Labels = map[string]string{"owner": strconv.Itoa(c.n)}
	s.StopTimeout = new(1)
	var made struct{ ID string }
	err, first := c.try("create", "POST", "/containers/create?name="+m.name, s, &made)
	switch {
	case m.there():
		c.want("create", err, first, http.StatusConflict)
	case c.want("create", err, first, http.StatusOK, http.StatusConflict):
		m.id, m.kind, m.state = made.ID, k, "created"
	case c.trouble == nil: // it had been made when the daemon was killed
		for {
			i, err := c.r.inspect(m.name)
			if statusOf(err) == 0 && c.awaitDaemon() {
				continue
			}
			if err != nil {
				c.fail("the name is taken, and %v", err)
				return
			}
			m.id, m.kind, m.state = i.ID, k, "created"
			return
		}
	}
}

func (c *walker) opStart(m *model, _ int) {
	err, first := c.try("start", "POST", c.at(m, "/start"), nil, nil)
	switch {
	case !m.there():
		c.want("start", err, first, http.StatusNotFound)
	case m.state == "running":
		c.want("start", err, first, http.StatusNotModified)
	case m.state == "paused":
		c.want("start", err, first, http.StatusConflict)
	default:
		c.want("start", err, first, http.StatusOK, http.StatusNotModified)
		m.begins()
	}
}

func (c *walker) opRun(m *model, detail int) {
	c.opCreate(m, detail)
	if c.trouble == nil {
		c.opStart(m, detail)
	}
}

func (c *walker) opStop(m *model, _ int) {
	err, first := c.try("stop", "POST", c.at(m, "/stop?t=1"), nil, nil)
	switch {
	case !m.there():
		c.want("stop", err, first, http.StatusNotFound)
	case m.live():
		// One that goes at its end may have gone.
		c.want("stop", err, first, http.StatusOK, http.StatusNotModified, http.StatusNotFound)
		m.policy = false
		m.ends(3, 143, 137)
	default:
		c.want("stop", err, first, http.StatusNotModified)
	}
}

func (c *walker) opRestart(m *model, _ int) {
	err, first := c.try("restart", "POST", c.at(m, "/restart?t=1"), nil, nil)
	switch {
	case !m.there():
		c.want("restart", err, first, http.StatusNotFound)
	case first:
		c.want("restart", err, first, http.StatusOK)
		m.begins()
	case m.kind.HostConfig.AutoRemove && statusOf(err) == http.StatusNotFound:
		m.gone() // ended, and the daemon that would have started it again was killed
	default:
		c.want("restart", err, first, http.StatusOK)
		m.begins()
	}
}

func (c *walker) opKill(m *model, _ int) {
	err, first := c.try("kill", "POST", c.at(m, "/kill"), nil, nil)
	switch {
	case !m.there():
		c.want("kill", err, first, http.StatusNotFound)
	case m.live():
		c.want("kill", err, first, http.StatusOK, http.StatusConflict, http.StatusNotFound)
		m.ends(137)
	default:
		c.want("kill", err, first, http.StatusConflict)
	}
}

// opTerm sends the stop signal; a first process that has not set its trap yet
// does not heed it, so nothing is known until it ends for sure.
func (c *walker) opTerm(m *model, _ int) {
	err, first := c.try("kill -s TERM", "POST", c.at(m, "/kill?signal=TERM"), nil, nil)
	switch {
	case !m.there():
		c.want("kill", err, first, http.StatusNotFound)
	case m.live():
		if !c.want("kill", err, first, http.StatusOK, http.StatusConflict, http.StatusNotFound) {
			m.ends(3, 143)
			return
		}
		err, first := c.try("stop", "POST", c.at(m, "/stop?t=1"), nil, nil)
		if status := statusOf(err); status != http.StatusOK && status != http.StatusNotModified && status != http.StatusNotFound {
			c.want("stop", err, first, http.StatusOK)
		}
		m.ends(3, 143, 137)
	default:
		c.want("kill", err, first, http.StatusConflict)
	}
}

func (c *walker) opPause(m *model, _ int) {
	err, first := c.try("pause", "POST", c.at(m, "/pause"), nil, nil)
	switch {
	case !m.there():
		c.want("pause", err, first, http.StatusNotFound)
	case m.state == "running":
		c.want("pause", err, first, http.StatusOK, http.StatusConflict)
		m.state = "paused"
	default:
		c.want("pause", err, first, http.StatusConflict)
	}
}

func (c *walker) opUnpause(m *model, _ int) {
	err, first := c.try("unpause", "POST", c.at(m, "/unpause"), nil, nil)
	switch {
	case !m.there():
		c.want("unpause", err, first, http.StatusNotFound)
	case m.state == "paused":
		c.want("unpause", err, first, http.StatusOK, http.StatusConflict)
		m.state = "running"
	default:
		c.want("unpause", err, first, http.StatusConflict)
	}
}

func (c *walker) opRename(m *model, _ int) {
	c.names++
	name := fmt.Sprintf("w%d-r%d", c.n, c.names)
	err, first := c.try("rename", "POST", c.at(m, "/rename?name="+name), nil, nil)
	if !m.there() {
		c.want("rename", err, first, http.StatusNotFound)
		return
	}
	c.want("rename", err, first, http.StatusOK, http.StatusNotFound)
	old := m.name
	m.name = name
	if c.trouble != nil {
		return
	}
	if err, _ := c.try("inspect", "GET", "/containers/"+old+"/json", nil, new(seen)); statusOf(err) != http.StatusNotFound {
		c.fail("its old name still leads somewhere: %v", err)
	}
}

func (c *walker) opUpdate(m *model, detail int) {
	err, first := c.try("update", "POST", c.at(m, "/update"), map[string]any{"Memory": (int64(detail) + 64) << 20, "MemorySwap": -1}, new([]byte))
	if !m.there() {
		c.want("update", err, first, http.StatusNotFound)
		return
	}
	c.want("update", err, first, http.StatusOK)
}

func (c *walker) opWait(m *model, _ int) {
	if m.live() {
		// The next end, which somebody else sees to.
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			time.Sleep(20 * time.Millisecond)
			_ = newRemote().call("POST", c.at(m, "/kill"), nil, nil) // below it is done again
		}()
		var end struct{ StatusCode int }
		err := c.r.call("POST", c.at(m, "/wait?condition=next-exit"), nil, &end)
		<-ended
		c.note("  wait: %v", err)
		if statusOf(err) == http.StatusOK && end.StatusCode != 137 {
			c.fail("wait says %d", end.StatusCode)
			return
		}
		if err != nil && statusOf(err) != 0 && statusOf(err) != http.StatusNotFound {
			c.fail("wait: %v", err)
			return
		}
		err, _ = c.try("kill", "POST", c.at(m, "/kill"), nil, nil)
		if s := statusOf(err); s != http.StatusOK && s != http.StatusConflict && s != http.StatusNotFound {
			c.fail("kill: %v", err)
		}
		m.ends(137)
		return
	}
	var end struct{ StatusCode int }
	err, first := c.try("wait", "POST", c.at(m, "/wait"), nil, &end)
	if !m.there() {
		c.want("wait", err, first, http.StatusNotFound)
		return
	}
	c.want("wait", err, first, http.StatusOK)
	if c.trouble == nil && m.state == "exited" && !slices.Contains(m.codes, end.StatusCode) {
		c.fail("wait says %d, want one of %v", end.StatusCode, m.codes)
	}
}

func (c *walker) opRemove(m *model, _ int) {
	err, first := c.try("rm", "DELETE", c.at(m, ""), nil, nil)
	switch {
	case !m.there():
		c.want("rm", err, first, http.StatusNotFound)
	case m.live():
		c.want("rm", err, first, http.StatusConflict)
	default:
		c.want("rm", err, first, http.StatusOK, http.StatusNotFound)
		m.gone()
	}
}

func (c *walker) opForceRemove(m *model, _ int) {
	err, first := c.try("rm -f", "DELETE", c.at(m, "?force=1"), nil, nil)
	if !m.there() {
		c.want("rm -f", err, first, http.StatusNotFound)
		return
	}
	c.want("rm -f", err, first, http.StatusOK, http.StatusNotFound)
	m.gone()
}

func (c *walker) opExec(m *model, detail int) {
	var made struct{ ID string }
	code := detail % 7
	cmd := map[string]any{"Cmd": []string{"sh", "-c", fmt.Sprintf("echo out%d; exit %d", detail, code)}, "AttachStdout": true}
	err, first := c.try("exec", "POST", c.at(m, "/exec"), cmd, &made)
	switch {
	case !m.there():
		c.want("exec", err, first, http.StatusNotFound)
		return
	case m.state != "running":
		c.want("exec", err, first, http.StatusConflict)
		return
	case !c.want("exec", err, first, http.StatusOK):
		return
	}
	var out []byte
	err = c.r.call("POST", "/exec/"+made.ID+"/start", map[string]any{"Detach": false}, &out)
	var x struct {
		Running  bool
		ExitCode *int
	}
	errX := c.r.call("GET", "/exec/"+made.ID+"/json", nil, &x)
	c.note("  exec: %v, then %v", err, errX)
	if s := statusOf(errX); s == 0 || s == http.StatusNotFound || statusOf(err) == 0 || statusOf(err) == http.StatusNotFound {
		return // the daemon was killed on the way; it keeps no execs
	}
	if err != nil || errX != nil || x.Running || x.ExitCode == nil || *x.ExitCode != code || !bytes.Contains(out, fmt.Appendf(nil, "out%d\n", detail)) {
		c.fail("exec: %v, %v, %+v, %q", err, errX, x, out)
	}
}

func (c *walker) opLogs(m *model, _ int) {
	err, first := c.try("logs", "GET", c.at(m, "/logs?stdout=1&stderr=1&tail=5"), nil, new([]byte))
	if !m.there() {
		c.want("logs", err, first, http.StatusNotFound)
		return
	}
	c.want("logs", err, first, http.StatusOK)
}

// opCopy copies a file in, or the last one out.
func (c *walker) opCopy(m *model, detail int) {
	if m.file == "" || detail%2 == 0 {
		text := fmt.Sprintf("%d.%d", c.n, detail)
		err, first := c.try("cp in", "PUT", c.at(m, "/archive?path=/"), oneFile("walked", text), nil)
		if !m.there() {
			c.want("cp in", err, first, http.StatusNotFound)
			return
		}
		c.want("cp in", err, first, http.StatusOK)
		m.file = text
		return
	}
	var out []byte
	err, first := c.try("cp out", "GET", c.at(m, "/archive?path=/walked"), nil, &out)
	if !c.want("cp out", err, first, http.StatusOK) {
		return
	}
	r := tar.NewReader(bytes.NewReader(out))
	if _, err := r.Next(); err != nil {
		c.fail("cp out: %v", err)
		return
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != m.file {
		c.fail("cp out: %q, want %q: %v", text, m.file, err)
	}
}

func oneFile(name, text string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
	_, wErr := w.Write([]byte(text))
	if err = errors.Join(err, wErr, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (c *walker) opPrune(_ *model, _ int) {
	err, first := c.try("prune", "POST", `/containers/prune?filters={"label":{"owner=`+strconv.Itoa(c.n)+`":true}}`, nil, new([]byte))
	c.want("prune", err, first, http.StatusOK)
	for _, m := range c.own {
		if m.there() && !m.live() {
			m.gone()
			c.look(m)
		}
	}
}

func (c *walker) opUnitStop(m *model, _ int) {
	// Where no daemon sees the stop, the policy brings such a container back: its unit is gone, as after a reboot.
	if !m.live() || m.kind.HostConfig.RestartPolicy["Name"] == "unless-stopped" {
		return
	}
	unit := prefix + "-" + m.id[:12] + ".service"
	if _, err := suite.output("systemctl", "--user", "stop", unit); err != nil {
		c.fail("%v", err)
	}
	m.ends(3, 143, 137, 255) // where no daemon saw it, its unit is just gone
}

func (c *walker) opKillProcess(m *model, _ int) {
	if !m.live() {
		return
	}
	var i seen
	err, first := c.try("inspect", "GET", c.at(m, "/json"), nil, &i)
	if !c.want("inspect", err, first, http.StatusOK) {
		return
	}
	if err := syscall.Kill(i.State.Pid, syscall.SIGKILL); err != nil {
		c.fail("its process cannot be killed: %v", err)
	}
	if m.kind.HostConfig.RestartPolicy["Name"] != "unless-stopped" {
		m.ends(137)
		return
	}
	m.state = "running"
	c.another(m, i.State.Pid)
}

// another waits until the policy has started a container again.
func (c *walker) another(m *model, old int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		i, err := c.r.inspect(m.name)
		if statusOf(err) == 0 && !c.awaitDaemon() {
			return
		}
		if err == nil && i.State.Status == "running" && i.State.Pid != old {
			return
		}
		if time.Now().After(deadline) {
			c.fail("%s is not started again: %+v, %v", m.name, i.State, err)
			return
		}
	}
}

// shared does something to a container that others do things to as well: the
// answer may be a refusal, but nothing may break.
func (c *walker) shared(what, detail int) {
	m := &model{name: fmt.Sprintf("shared%d", detail%sharedAll)}
	op := operations[what].name
	k := kinds[detail/sharedAll%len(kinds)]
	c.note("%s: %s %d", m.name, op, detail)
	say := func(method, rest string, body any) {
		_, _ = c.try("shared "+op, method, c.at(m, rest), body, new([]byte)) // fails where the daemon did
	}
	switch op {
	case "create", "run":
		s := k.spec
		s.StopTimeout = new(1)
		s.Labels = map[string]string{"owner": "all"}
		_, _ = c.try("shared create", "POST", "/containers/create?name="+m.name, s, new([]byte))
		if op == "run" {
			say("POST", "/start", nil)
		}
	case "start", "pause", "unpause", "kill":
		say("POST", "/"+op, nil)
	case "stop", "restart":
		say("POST", "/"+op+"?t=1", nil)
	case "term":
		say("POST", "/kill?signal=TERM", nil)
	case "rename":
		say("POST", fmt.Sprintf("/rename?name=shared%d", detail%7%sharedAll), nil)
	case "update":
		say("POST", "/update", map[string]any{"Memory": (int64(detail) + 64) << 20, "MemorySwap": -1})
	case "rm":
		say("DELETE", "", nil)
	case "rm -f":
		say("DELETE", "?force=1", nil)
	case "logs":
		say("GET", "/logs?stdout=1", nil)
	case "cp":
		say("PUT", "/archive?path=/", oneFile("shared", strconv.Itoa(detail)))
	case "prune":
		_, _ = c.try("shared prune", "POST", `/containers/prune?filters={"label":{"owner=all":true}}`, nil, new([]byte))
	case "exec":
		var made struct{ ID string }
		if err, _ := c.try("shared exec", "POST", c.at(m, "/exec"), map[string]any{"Cmd": []string{"true"}, "AttachStdout": true}, &made); err == nil {
			_, _ = c.try("shared exec start", "POST", "/exec/"+made.ID+"/start", map[string]any{"Detach": detail%2 == 0}, new([]byte))
		}
	case "unit stop", "kill -9":
		var i seen
		if err, _ := c.try("shared inspect", "GET", c.at(m, "/json"), nil, &i); err != nil || i.State.Pid == 0 {
			return
		}
		if op == "kill -9" {
			_ = syscall.Kill(i.State.Pid, syscall.SIGKILL) // it may have gone
			return
		}
		_, _ = suite.output("systemctl", "--user", "stop", prefix+"-"+i.ID[:12]+".service")
	}
}
