package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

// insideEnv names the working directory of the second process, which runs as
// root of a user namespace of one id, in a network namespace that plays the
// host's. No privilege is needed for that.
const insideEnv = "MOSS_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot set the tests up:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func inside() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// inNamespaces tells whether this is the process to run the test in. If not, it
// has run the test in another one.
func inNamespaces(t testing.TB, flag string) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	work := t.TempDir()
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", "-test."+flag+"=^"+t.Name()+"$", "-test.v="+strconv.FormatBool(testing.Verbose()))
	if flag == "bench" {
		cmd.Args = append(cmd.Args, "-test.run=^$")
	}
	cmd.Env = append(os.Environ(), insideEnv+"="+work)
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// testPorts is a port driver that listens, and says nothing to those who call.
type testPorts struct {
	mu   sync.Mutex
	last int
	open map[int]testPort
	gone bool
}

type testPort struct {
	Port
	close func() error
}

func (p *testPorts) Add(ctx context.Context, port Port) (int, error) {
	var lc net.ListenConfig
	at := netip.AddrPortFrom(port.HostIP, port.HostPort).String()
	network := string(port.Proto) + "4"
	if port.HostIP.Is6() {
		network = string(port.Proto) + "6"
	}
	var closer func() error
	var err error
	if port.Proto == moss.UDP {
		var c net.PacketConn
		if c, err = lc.ListenPacket(ctx, network, at); err == nil {
			closer = c.Close
		}
	} else {
		var l net.Listener
		if l, err = lc.Listen(ctx, network, at); err == nil {
			closer = l.Close
		}
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return 0, moss.Errorf(moss.Conflict, "%w", err)
	case errors.Is(err, unix.EACCES):
		return 0, moss.Errorf(moss.Forbidden, "%w", err)
	case err != nil:
		return 0, moss.Errorf(moss.Invalid, "%w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.open[p.last] = testPort{port, closer}
	return p.last, nil
}

func (p *testPorts) Remove(_ context.Context, id int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	port, ok := p.open[id]
	if !ok {
		return moss.Errorf(moss.NotFound, "unknown id")
	}
	delete(p.open, id)
	return port.close()
}

func (p *testPorts) List(context.Context) (map[int]Port, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil, moss.Errorf(moss.Unavailable, "the holder does not run")
	}
	out := map[int]Port{}
	for id, port := range p.open {
		out[id] = port.Port
	}
	return out, nil
}

type networksRig struct {
	all   []*Networks
	n     *Networks
	cfg   Config
	ports *testPorts
}

func newRig(t testing.TB, subnet string) *networksRig {
	t.Helper()
	dir := t.TempDir()
	holder := filepath.Join(dir, "holder")
	s, err := makeNetNS(holder)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	ports := &testPorts{open: map[int]testPort{}}
	r := &networksRig{ports: ports, cfg: Config{NetNS: holder, Dir: filepath.Join(dir, "netns"), MTU: 9000, Ports: ports}}
	if subnet != "" {
		r.cfg.Subnet = netip.MustParsePrefix(subnet)
	}
	r.n = r.open(t)
	t.Cleanup(func() {
		if left := r.left(t); len(left) > 0 && !t.Failed() {
			t.Errorf("left over at the end: %q", left)
		}
		if err := removeNetNS(holder); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *networksRig) open(t testing.TB) *Networks {
	t.Helper()
	n, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	r.all = append(r.all, n)
	return n
}

func (r *networksRig) Networks() engine.Networks { return r.n }

func (r *networksRig) Again(t *testing.T) engine.Networks { return r.open(t) }

func (r *networksRig) Busy(t *testing.T) uint16 {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// Privileged is none: the namespace that plays the host's is this user's own.
func (r *networksRig) Privileged(*testing.T) uint16 { return 0 }

func (r *networksRig) Left(t *testing.T) []string { return r.left(t) }

func (r *networksRig) left(t testing.TB) []string {
	t.Helper()
	var left []string
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); filepath.Dir(f[4]) == r.cfg.Dir {
			if _, err := os.Lstat(f[4]); err != nil {
				left = append(left, "mount "+f[4])
			}
		}
	}
	for _, n := range r.all {
		n.dismissed.Wait()
	}
	links, err := r.n.handle.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" {
			left = append(left, l.Attrs().Name)
		}
	}
	for _, p := range r.ports.open {
		left = append(left, fmt.Sprintf("port %+v to %s:%d", p.Port, p.ChildIP, p.ChildPort))
	}
	return left
}

func TestContract(t *testing.T) {
	if inNamespaces(t, "run") {
		porttest.Networks(t, func(t *testing.T) porttest.NetworksRig { return newRig(t, "") })
	}
}

// pool is that of the default bridge.
func (n *Networks) pool() *ipam { return n.placeOf(networkID(moss.NetworkBridge)).v4 }

func TestMakerContract(t *testing.T) {
	if inNamespaces(t, "run") {
		porttest.NetworkMaker(t, func(t *testing.T) porttest.NetworksRig { return newRig(t, "") })
	}
}
