package holder

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/rootless/holder/gvisor"
	"github.com/moss-containers/moss/userns"
)

// The test binary is, by turns, the holder's processes and a process that joins
// them, told by this variable.
const roleEnv = "MOSS_TEST_ROLE"

func TestMain(m *testing.M) {
	stack := &Stack{Parent: gvisor.Parent, Child: gvisor.Child}
	handled, err := Init(stack)
	if !handled {
		switch role := os.Getenv(roleEnv); role {
		case "":
			os.Exit(m.Run())
		case "holder":
			err = runHolder(stack)
		case "look":
			err = json.NewEncoder(os.Stdout).Encode(look())
		case "inside":
			err = inside()
		case "hosts":
			err = withoutHosts()
		default:
			err = fmt.Errorf("unknown role %q", role)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runHolder(stack *Stack) error {
	cfg := Config{Log: NewLog(os.Stderr, true), Stack: stack}
	if err := json.Unmarshal([]byte(os.Getenv("MOSS_TEST_CONFIG")), &cfg); err != nil {
		return err
	}
	return Run(context.Background(), cfg)
}

// seen is what a joined process finds.
type seen struct {
	Joined         bool
	EUID           int
	OuterUID       uint32
	IDs            uint64
	UserNS, NetNS  string
	JoinEnv        bool // still set for Go
	CJoinEnv       bool // still set for a child
	Cwd            string
	Mount, Unmount string // error texts
	CgroupFS       bool
	ReexecSaid     string
	Err            string
}

func look() (s seen) {
	if os.Getenv("MOSS_TEST_REEXEC") != "" {
		s.Joined = userns.Joined()
		return s
	}
	s.Joined, s.EUID = userns.Joined(), os.Geteuid()
	var err error
	if s.OuterUID, err = userns.OuterUID(); err != nil {
		s.Err = err.Error()
	}
	if m, err := userns.Current(); err == nil {
		s.IDs = userns.Total(m.UIDs)
	}
	s.UserNS, _ = os.Readlink("/proc/self/ns/user")
	s.NetNS, _ = os.Readlink("/proc/self/ns/net")
	_, s.JoinEnv = os.LookupEnv(userns.JoinEnv)
	s.Cwd, _ = os.Getwd()
	dir := os.Getenv("MOSS_TEST_MOUNT")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		s.Mount = err.Error()
	} else if err := unix.Unmount(dir, 0); err != nil {
		s.Unmount = err.Error()
	}
	var fs unix.Statfs_t
	s.CgroupFS = unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "MOSS_TEST_REEXEC=1")
	out, err := cmd.CombinedOutput()
	s.ReexecSaid = string(out)
	if err != nil {
		s.ReexecSaid += err.Error()
	}
	out, _ = exec.Command("env").Output()
	s.CJoinEnv = strings.Contains(string(out), userns.JoinEnv)
	return s
}

// inside does what it is told on standard input in the detached network
// namespace: "listen", which answers with a port whose connections are told
// whom they come from, and "dial ADDRESS".
func inside() error {
	runtime.LockOSThread()
	f, err := os.Open(os.Getenv("MOSS_TEST_NETNS"))
	if err != nil {
		return err
	}
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "listen":
			ln, err := net.Listen("tcp4", "0.0.0.0:0")
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					fmt.Fprintln(c, c.RemoteAddr())
					c.Close()
				}
			}()
			fmt.Println(ln.Addr().(*net.TCPAddr).Port)
		case "listen-udp":
			c, err := net.ListenPacket("udp4", "0.0.0.0:0")
			if err != nil {
				return err
			}
			go func() {
				buf := make([]byte, 2048)
				for {
					n, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo(buf[:n], from)
				}
			}()
			fmt.Println(c.LocalAddr().(*net.UDPAddr).Port)
		case "dial":
			d := net.Dialer{Timeout: 5 * time.Second}
			c, err := d.Dial("tcp", arg)
			if err != nil {
				fmt.Println("error:", err)
				continue
			}
			b, err := io.ReadAll(c)
			fmt.Println(strings.TrimSpace(string(b)), err)
			c.Close()
		}
	}
	return in.Err()
}

// command is this binary in a role.
func command(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role), env...)
	return cmd
}

// running is a holder in a process of its own.
type running struct {
	cmd   *exec.Cmd
	state string
	info  rootless.Info
	ended chan error
}

// start runs a holder and waits until it says that it is ready.
func start(t *testing.T, cfg Config) *running {
	t.Helper()
	cfg.Log = nil
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir(): a socket's name has 108 bytes.
	dir, err := os.MkdirTemp("", "moss")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/n", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	r := &running{state: cfg.StateDir, ended: make(chan error, 1)}
	r.cmd = command(t, "holder", "MOSS_TEST_CONFIG="+string(js), "NOTIFY_SOCKET="+dir+"/n")
	var log safeBuilder
	r.cmd.Stderr = &log
	r.cmd.WaitDelay = 5 * time.Second // its children may hold standard error
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait(); notify.Close() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it has ended, if all is well
		if t.Failed() {
			t.Logf("the holder's log:\n%s", log.String())
		}
	})
	buf := make([]byte, 4096)
	if err := notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := notify.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "READY=1") {
		if n == 0 { // else it has said that it ends
			_ = r.cmd.Process.Kill()
		}
		t.Fatalf("the holder did not become ready: %q, %v, %v\n%s", buf[:n], err, <-r.ended, log.String())
	}
	if r.info, err = rootless.ReadInfo(cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	return r
}

// end waits for the holder's end.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the holder does not end")
		return nil
	}
}

// talk starts a process inside the detached network namespace and returns a
// function that has it do something.
func (r *running) talk(t *testing.T) func(string) string {
	t.Helper()
	cmd := command(t, "inside", userns.JoinEnv+"="+r.state, "MOSS_TEST_NETNS="+r.info.NetNS)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return func(what string) string {
		t.Helper()
		if _, err := fmt.Fprintln(in, what); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("no answer to %q: %v", what, lines.Err())
		}
		return lines.Text()
	}
}

// safeBuilder may be read while a killed holder's children still write to it.
type safeBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
