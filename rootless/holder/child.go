package holder

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/child"
	"golang.org/x/sys/unix"
)

// Init is to be called first in main, and in TestMain. Where this process is one
// of the holder's own, Init does its work and says so; main then ends, with
// status 1 if there is an error. The stack is that of [Config].
func Init(stack *Stack) (handled bool, err error) {
	switch {
	case filepath.Base(os.Args[0]) == "unshare":
		return true, bindNetNS(os.Args[1:])
	case os.Getenv(pipeEnv) != "":
		return true, runChild(stack)
	}
	return false, nil
}

func runChild(stack *Stack) error {
	log := NewLog(os.Stderr, os.Getenv(debugEnv) != "")
	bridgeLogrus(log)
	net, err := childDriver(os.Getenv(driverEnv), os.Getenv(ipv6Env) != "", stack)
	if err != nil {
		return err
	}
	undo, err := standInHosts()
	if err != nil {
		return err
	}
	ports := &portDriver{log: log, ready: func() {
		// After the payload has been started, which is the last of the set-up.
		time.AfterFunc(time.Second, debug.FreeOSMemory)
	}}
	return child.Child(child.Opt{
		PipeFDEnvKey:             pipeEnv,
		ChildUseActivationEnvKey: activationEnv,
		StateDirEnvKey:           stateEnv,
		TargetCmd:                []string{"/proc/self/exe", payloadArg},
		NetworkDriver:            firstUndo{net, undo},
		PortDriver:               ports,
		DetachNetNS:              true,
		Propagation:              propagation,
	})
}

// bindNetNS stands in for the unshare(1) that rootlesskit runs, by the name of
// its own embedded one, to make the detached network namespace: a new namespace,
// bound to a file.
func bindNetNS(args []string) error {
	want := []string{"-n", "mount", "--bind", "/proc/self/ns/net"}
	if len(args) != len(want)+1 || !slices.Equal(args[:len(want)], want) {
		return fmt.Errorf("cannot do unshare %q: only what rootlesskit asks for", args)
	}
	path := args[len(want)]
	runtime.LockOSThread() // the thread ends with the process
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot make a network namespace: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind the network namespace to %s: %w", path, err)
	}
	return nil
}
