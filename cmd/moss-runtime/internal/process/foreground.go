package process

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// forwarded are the signals a foreground process is given when its runtime
// gets them. SIGCHLD, SIGURG (used by Go itself) and the like stay here.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGCONT, unix.SIGTSTP, unix.SIGALRM, unix.SIGIO, unix.SIGPWR, unix.SIGWINCH,
}

// Forwarder passes signals on to a process in the foreground.
type Forwarder struct{ signals chan os.Signal }

// NewForwarder catches signals from now on, so that none is lost while the
// process is still being started.
func NewForwarder() *Forwarder {
	f := &Forwarder{signals: make(chan os.Signal, 64)}
	signal.Notify(f.signals, forwarded...)
	return f
}

// Wait waits for lp, passing signals on meanwhile, and returns its exit code:
// 128+n where signal n ended it. t may be nil.
func (f *Forwarder) Wait(lp *libcontainer.Process, t *Terminal) (int, error) {
	defer signal.Stop(f.signals)
	type result struct {
		state *os.ProcessState
		err   error
	}
	ended := make(chan result, 1)
	go func() {
		state, err := lp.Wait()
		ended <- result{state, err}
	}()
	for {
		select {
		case sig := <-f.signals:
			if sig == unix.SIGWINCH && t != nil {
				t.Resize()
				continue
			}
			if err := lp.Signal(sig); err != nil {
				logrus.Debugf("cannot pass %s on: %v", sig, err)
			}
		case r := <-ended:
			// An unsuccessful exit is reported as an error too.
			if r.state == nil {
				return -1, r.err
			}
			return exitCode(r.state), nil
		}
	}
}

func exitCode(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}
