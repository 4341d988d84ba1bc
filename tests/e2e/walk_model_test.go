package e2e

import (
	"fmt"
	"slices"
	"syscall"
)

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
	if m.kind.HostConfig.Runtime == "runc" && slices.Contains(codes, 143) {
		// Its init is a Go program, which a first process' signal does not kill: it exits with 2
		// when one comes before the container's program has taken its place.
		codes = append(codes, 2)
	}
	m.state, m.codes = "exited", codes
	if m.kind.HostConfig.AutoRemove {
		m.gone()
	}
}

func (m *model) gone() { m.id, m.state, m.ran, m.file, m.policy = "", "", false, "", false }
