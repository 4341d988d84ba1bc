package local

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/children"
)

// Guard runs a program, hands SIGTERM and SIGINT on to it and, when it has ended
// in whatever way, kills all that it has left. The program itself gets SIGTERM
// when its guard is killed. It returns the program's exit status.
func Guard(args, env []string) (int, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("cannot become a child subreaper: %w", err)
	}
	asked := make(chan os.Signal, 4)
	signal.Notify(asked, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	// Main's own thread stays until the end, as what PR_SET_PDEATHSIG looks at must.
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot run %s: %w", args[0], err)
	}
	go func() {
		for s := range asked {
			_ = unix.Kill(pid, s.(syscall.Signal)) // it may have ended
		}
	}()
	code, ended := 0, false
	for {
		var status syscall.WaitStatus
		switch got, err := syscall.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return code, nil
		case err != nil:
			return code, os.NewSyscallError("wait4", err)
		case got == pid:
			signal.Stop(asked)
			ended, code = true, status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
		if ended { // what each leaves becomes ours in turn
			if err := children.Kill(); err != nil {
				return code, err
			}
		}
	}
}
