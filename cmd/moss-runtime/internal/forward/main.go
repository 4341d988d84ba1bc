package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv says that the process is in the network namespace already.
const insideEnv = "_MOSS_FORWARD"

// firstSocket is the descriptor of the first socket passed, see sd_listen_fds(3).
const firstSocket = 3

// Main runs the program and returns its exit code.
func Main(args []string) int {
	debug.SetGCPercent(100) // unlike the runtime's commands it lives on
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.give {
		return give(o)
	}
	if os.Getenv(insideEnv) == "" {
		return enter(o.netns)
	}
	if err := os.Unsetenv(insideEnv); err != nil {
		return err
	}
	sockets, err := passed(len(o.ports))
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	return newServer(o, sockets).serve(stop)
}

type options struct {
	api, netns, id string
	idle           time.Duration
	give           bool // the container takes the sockets themselves
	ports          []uint16
}

func parse(args []string) (o options, err error) {
	if len(args) < 5 {
		return o, errors.New("usage: moss-runtime forward SOCKET NETNS CONTAINER IDLE|listen-fds PORT…")
	}
	o.api, o.netns, o.id = args[0], args[1], args[2]
	if o.give = args[3] == "listen-fds"; o.give {
		args[3] = "0"
	}
	if o.idle, err = time.ParseDuration(args[3]); err != nil {
		return o, fmt.Errorf("cannot read the idle time: %w", err)
	}
	for _, a := range args[4:] {
		port, err := strconv.ParseUint(a, 10, 16)
		if err != nil {
			return o, fmt.Errorf("cannot read the port: %w", err)
		}
		o.ports = append(o.ports, uint16(port))
	}
	return o, nil
}

// enter becomes the same program in the network namespace: a thread can go there,
// and the process that it executes is all there.
func enter(netns string) error {
	runtime.LockOSThread()
	ns, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open the network namespace %s: %w", netns, err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot enter the network namespace %s: %w", netns, err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), insideEnv+"=1"))
}

// passes checks that the manager has passed as many sockets.
func passes(want int) error {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || n != want {
		return fmt.Errorf("%d sockets are wanted, LISTEN_FDS=%s of process %s are passed", want, os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"))
	}
	return nil
}

// passed are the sockets that the manager has passed.
func passed(want int) ([]*net.TCPListener, error) {
	if err := passes(want); err != nil {
		return nil, err
	}
	var out []*net.TCPListener
	for i := range want {
		f := os.NewFile(uintptr(firstSocket+i), "socket")
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("cannot listen at the socket: %w", err)
		}
		t, ok := l.(*net.TCPListener)
		if !ok {
			return nil, fmt.Errorf("the socket is %T", l)
		}
		out = append(out, t)
	}
	return out, nil
}
