// Package reexec is the first half of a container: libcontainer starts this
// same binary again as `moss-runtime init`, with its instructions in pipes
// named by _LIBCONTAINER_* variables. The C constructor of nsenter has entered
// the namespaces by then; what is left happens here, in a package init, so
// that the command line's packages cost the container nothing.
//
// libcontainer gives that child an environment of its own, so the variables of
// the namespace join (package userns) never reach it.
package reexec

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/filter"
	"github.com/moss-containers/moss/pkg/execfifo"

	// The C constructor which clones and joins namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
)

func init() {
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		heedSignals()
		fillFifo()
		filter.Take()
		libcontainer.Init()
	}
}

// fillFifo keeps a start that is cut short from being one: see package execfifo.
// What fails leaves init to wait as libcontainer has it; execs have no fifo.
func fillFifo() {
	if fd, err := strconv.Atoi(os.Getenv("_LIBCONTAINER_FIFOFD")); err == nil {
		_ = execfifo.Fill(fd)
	}
}

// ending are the signals that end a program unless it has something else in mind.
var ending = []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// heedSignals ends init on a signal that comes before the container's program is
// there, with the code that a shell would give: a stop right after a start. Left
// to itself Go ends the first process of a namespace with 2, and on SIGQUIT writes
// its goroutines into the container's log. The program gets its own dispositions.
func heedSignals() {
	if os.Getpid() != 1 {
		leaveToKernel()
		return
	}
	// The kernel keeps them from the first process of a namespace that does not ask for them.
	ch := make(chan os.Signal, 1)
	for _, sig := range ending {
		signal.Notify(ch, sig)
	}
	go func() {
		if sig, ok := (<-ch).(syscall.Signal); ok {
			os.Exit(128 + int(sig))
		}
	}()
}

// leaveToKernel takes Go's handlers away: one that has taken a signal is gone with
// the execve that comes before it could act, and an exec would outlive its SIGTERM.
func leaveToKernel() {
	var byDefault [4]uint64 // struct sigaction of rt_sigaction(2), the kernel's; SIG_DFL is 0
	for _, sig := range ending {
		// What is refused stays as Go has it.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
}
