package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

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
