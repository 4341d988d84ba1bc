package plugin

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Commands are for testscript:
//
//	plugin NAME volume|authz|log|liar [spec]   starts one that lives as long as the script, found by its socket below
//	                                           $XDG_RUNTIME_DIR, or with spec by a file below $XDG_CONFIG_HOME; $NAME_DIR is its
//	                                           directory: hang, die and deny there have what it is to do wrong
//	kill-plugin NAME                           kill -9; its socket stays. The same plugin again starts it anew
func Commands(run string) map[string]func(*testscript.TestScript, bool, []string) {
	c := &commands{run: run, all: make(map[string]*running)}
	return map[string]func(*testscript.TestScript, bool, []string){"plugin": c.plugin, "kill-plugin": c.kill}
}

type commands struct {
	run string // the engine's run-time directory, below $XDG_RUNTIME_DIR
	mu  sync.Mutex
	all map[string]*running
}

type running struct {
	cmd    *exec.Cmd
	socket string
	ended  bool
}

func (r *running) end() {
	if r.ended {
		return
	}
	r.ended = true
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	_ = r.cmd.Wait() // killed
}

// patience is how long a plugin may take to listen.
const patience = 20 * time.Second

func (c *commands) plugin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: plugin name kind [spec]")
	}
	name, kind := args[0], args[1]
	dir := ts.MkAbs("plugin-" + name)
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Setenv(strings.ToUpper(name)+"_DIR", dir)
	sockets := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), c.run, "plugins")
	socket := filepath.Join(sockets, name+".sock")
	if len(args) == 3 {
		sockets = dir
		socket = filepath.Join(dir, "s")
		specs := filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "docker", "plugins")
		spec := filepath.Join(specs, name+".spec")
		ts.Check(os.MkdirAll(specs, 0o700))
		ts.Check(os.WriteFile(spec, []byte("unix://"+socket), 0o600))
		ts.Defer(func() { ts.Check(os.RemoveAll(filepath.Dir(specs))) })
	}
	ts.Check(os.MkdirAll(sockets, 0o700))
	self, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), Env+"="+strings.Join([]string{kind, socket, dir}, " "))
	cmd.Stderr = os.Stderr
	ts.Check(cmd.Start())
	r := &running{cmd: cmd, socket: socket}
	c.mu.Lock()
	c.all[dir] = r
	c.mu.Unlock()
	ts.Defer(func() {
		r.end()
		_ = os.Remove(socket) // it may have gone
	})
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the plugin does not listen: %v", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *commands) kill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kill-plugin name")
	}
	c.mu.Lock()
	r := c.all[ts.MkAbs("plugin-"+args[0])]
	c.mu.Unlock()
	if r == nil {
		ts.Fatalf("there is no plugin %s", args[0])
	}
	r.end()
}
