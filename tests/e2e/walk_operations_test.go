package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"
)

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
