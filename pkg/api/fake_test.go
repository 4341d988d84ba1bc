package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

// world is the state that the fake services share.
type world struct {
	mu     sync.Mutex
	byRef  map[string]*proc
	execs  map[string]*fakeExec
	paused bool // no exec can be started
	last   moss.CreateRequest
	events chan moss.Event
	noLogs error
	left   chan struct{} // gets a value for each attachment, and transfer of "slow", whose context ended
	asked  any           // what the image side was last asked
}

// proc is a container whose process echoes its input, or says a word on each
// stream without one. Its exit code is the number after "exit" in its command.
type proc struct {
	c       moss.Container
	a       []moss.AttachIO
	done    chan struct{}
	removed chan struct{}
	cut     error // why attachments end when it is done; nil for nothing
}

func (p *proc) run() {
	for _, a := range p.a {
		if a.Stdin != nil {
			_, _ = io.Copy(a.Stdout, a.Stdin)
			continue
		}
		if a.Stdout != nil {
			fmt.Fprint(a.Stdout, "to stdout\n")
		}
		if a.Stderr != nil {
			fmt.Fprint(a.Stderr, "to stderr\n")
		}
	}
}

func (p *proc) code() int {
	for i, arg := range p.c.Config.Cmd {
		if arg == "exit" {
			n, _ := strconv.Atoi(p.c.Config.Cmd[i+1])
			return n
		}
	}
	return 0
}

type fakeExec struct {
	e moss.Exec
}

type (
	fakeContainers struct{ *world }
	fakeViews      struct{ *world }
	fakeSignals    struct{ *world }
	fakeExecs      struct{ *world }
	fakeNetworks   struct{}
	fakeSystem     struct{ *world }
)

func (w *world) get(ref string) (*proc, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.byRef[ref]
	if !ok {
		return nil, moss.Errorf(moss.NotFound, "No such container: %s", ref)
	}
	return p, nil
}

func (f fakeContainers) Create(_ context.Context, r CreateRequest) (moss.ContainerID, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = r
	if r.Config.Image != "busybox" {
		return "", nil, moss.Errorf(moss.NotFound, "No such image: %s", r.Config.Image)
	}
	id := moss.ContainerID(moss.NewHexID())
	name := r.Name
	if name == "" {
		name = "quiet_moss"
	}
	if _, taken := f.byRef[name]; taken {
		return "", nil, moss.Errorf(moss.Conflict, "Conflict. The container name %q is already in use", "/"+name)
	}
	p := &proc{done: make(chan struct{}), removed: make(chan struct{}), c: moss.Container{
		ID: id, Name: name, State: moss.StateCreated, Config: r.Config, Host: r.Host, Created: time.Now(), ImageRef: r.Config.Image,
	}}
	f.byRef[string(id)], f.byRef[name], f.byRef[id.Short()] = p, p, p
	return id, nil, nil
}

func (f fakeContainers) Start(_ context.Context, ref string) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.c.State != moss.StateCreated {
		return moss.Errorf(moss.NotModified, "already started")
	}
	p.c.State, p.c.Run.StartedAt = moss.StateRunning, time.Now()
	go func() {
		p.run()
		f.mu.Lock()
		defer f.mu.Unlock()
		p.c.State, p.c.Run.ExitCode, p.c.Run.FinishedAt = moss.StateExited, p.code(), time.Now()
		close(p.done)
		if p.c.Host.AutoRemove {
			f.drop(p)
			close(p.removed)
		}
	}()
	return nil
}

func (f fakeContainers) Stop(_ context.Context, ref string, _ StopOptions) error {
	_, err := f.get(ref)
	return err
}

func (f fakeContainers) Restart(_ context.Context, ref string, _ StopOptions) error {
	_, err := f.get(ref)
	return err
}

func (f fakeContainers) Remove(_ context.Context, ref string, _ bool) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(p)
	return nil
}

func (f fakeContainers) Unlink(_ context.Context, ref string) error {
	_, err := f.get(ref)
	return err
}

func (f fakeContainers) Rename(_ context.Context, ref, name string) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byRef, p.c.Name)
	p.c.Name, f.byRef[name] = name, p
	return nil
}

func (f fakeContainers) Pause(_ context.Context, ref string) error {
	return f.pause(ref, moss.StateRunning, moss.StatePaused)
}

func (f fakeContainers) Unpause(_ context.Context, ref string) error {
	return f.pause(ref, moss.StatePaused, moss.StateRunning)
}

func (f fakeContainers) pause(ref string, from, to moss.State) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.c.State != from {
		return moss.Errorf(moss.Conflict, "container %s is %s", ref, p.c.State)
	}
	p.c.State = to
	return nil
}

func (f fakeContainers) Update(_ context.Context, ref string, u moss.ContainerUpdate) ([]string, error) {
	_, err := f.get(ref)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = u
	return []string{"a warning"}, err
}

func (f fakeContainers) Prune(_ context.Context, q moss.PruneFilter) (moss.ContainersPruned, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = q
	var done moss.ContainersPruned
	for ref, p := range f.byRef {
		if ref == string(p.c.ID) && !p.c.State.Alive() {
			f.drop(p)
			done.Removed, done.Reclaimed = append(done.Removed, p.c.ID), done.Reclaimed+10
		}
	}
	return done, nil
}

// drop forgets a container; the caller holds mu.
func (w *world) drop(p *proc) {
	delete(w.byRef, string(p.c.ID))
	delete(w.byRef, p.c.ID.Short())
	delete(w.byRef, p.c.Name)
}

func (f fakeViews) Get(ref string) (moss.Container, error) {
	p, err := f.get(ref)
	if err != nil {
		return moss.Container{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return p.c, nil
}

func (f fakeViews) List(ContainerFilter) ([]*moss.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*moss.Container
	for ref, p := range f.byRef {
		if ref == string(p.c.ID) {
			rec := p.c
			out = append(out, &rec)
		}
	}
	return out, nil
}

func (f fakeViews) Wait(ctx context.Context, ref string, c WaitCondition, ready func()) (int, string, error) {
	p, err := f.get(ref)
	if err != nil {
		return 0, "", err
	}
	ready()
	end := p.done
	if c == moss.WaitRemoved {
		end = p.removed
	}
	select {
	case <-end:
		return p.code(), "", nil
	case <-ctx.Done():
		return 0, "", ctx.Err()
	}
}

func (f fakeViews) Logs(ctx context.Context, _ string, q moss.LogQuery, fn func(moss.LogLine) error) error {
	if f.noLogs != nil {
		return f.noLogs
	}
	if q.Tail == 0 {
		return nil
	}
	at := time.Date(2024, 5, 6, 7, 8, 9, 10, time.UTC)
	for _, l := range []moss.LogLine{
		{Stream: moss.Stdout, Time: at, Text: []byte("one\n"), Attrs: map[string]string{"b": "2", "a": "1"}},
		{Stream: moss.Stderr, Time: at, Text: []byte("half "), Partial: true},
		{Stream: moss.Stderr, Time: at, Text: []byte("line\n")},
	} {
		if err := fn(l); err != nil {
			return err
		}
	}
	if q.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f fakeViews) Processes(_ context.Context, ref string) (moss.ProcessList, error) {
	p, err := f.get(ref)
	if err != nil {
		return moss.ProcessList{}, err
	}
	if !p.c.State.Alive() {
		return moss.ProcessList{}, moss.Errorf(moss.Conflict, "container %s is not running", ref)
	}
	return psList, nil
}

func (f fakeViews) Stats(ctx context.Context, ref string, mode moss.StatsMode, fn func(moss.Stats) error) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	st := moss.Stats{ID: p.c.ID, Name: p.c.Name}
	if p.c.State.Alive() {
		st.Now = sampleAt(2)
		if mode == moss.StatsPair {
			st.Before = sampleAt(1)
		}
	}
	if err := fn(st); err != nil || mode != moss.StatsStream {
		return err
	}
	st.Before, st.Now = sampleAt(2), sampleAt(3)
	if err := fn(st); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f fakeViews) Sizes(_ context.Context, ids []moss.ContainerID) (map[moss.ContainerID]moss.ContainerUsage, error) {
	out := map[moss.ContainerID]moss.ContainerUsage{}
	for _, id := range ids {
		out[id] = moss.ContainerUsage{Written: 17, Total: 4338}
	}
	return out, nil
}

func (f fakeSignals) Kill(_ context.Context, ref string, _ syscall.Signal) error {
	_, err := f.get(ref)
	return err
}

func (f fakeSignals) Attach(ctx context.Context, ref string, a moss.AttachIO, _, _ bool, attached func()) error {
	p, err := f.get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	p.a = append(p.a, a)
	f.mu.Unlock()
	attached()
	select {
	case <-p.done:
		return p.cut
	case <-ctx.Done():
		f.left <- struct{}{}
		return ctx.Err()
	}
}

func (f fakeSignals) Resize(_ context.Context, ref string, _ moss.TermSize) error {
	_, err := f.get(ref)
	return err
}

func (f fakeExecs) Create(_ context.Context, ref string, c moss.ExecConfig) (moss.ExecID, error) {
	p, err := f.get(ref)
	if err != nil {
		return "", err
	}
	id := moss.ExecID(moss.NewHexID())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.execs[string(id)] = &fakeExec{moss.Exec{ID: id, Container: p.c.ID, Config: c}}
	return id, nil
}

func (f fakeExecs) Start(_ context.Context, id string, _ bool, _ moss.TermSize, a moss.AttachIO, attached func()) error {
	f.mu.Lock()
	e := f.execs[id]
	f.mu.Unlock()
	code := 0
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		e.e.Started, e.e.ExitCode = true, &code
	}()
	if e.e.Config.Cmd[0] == "missing" {
		code = 127
		return moss.Errorf(moss.Invalid, `exec: "missing": executable file not found in $PATH`)
	}
	attached()
	if a.Stdin != nil {
		_, err := io.Copy(a.Stdout, a.Stdin)
		return err
	}
	if a.Stdout != nil {
		fmt.Fprint(a.Stdout, "exec out\n")
	}
	return nil
}

func (f fakeExecs) Resize(context.Context, string, moss.TermSize) error { return nil }

func (f fakeExecs) Startable(id string) (moss.Exec, error) {
	e, err := f.Get(id)
	if err == nil && f.paused {
		err = moss.Errorf(moss.Conflict, "Container c is paused, unpause the container before exec")
	}
	return e, err
}

func (f fakeExecs) Get(id string) (moss.Exec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.execs[id]
	if !ok {
		return moss.Exec{}, moss.Errorf(moss.NotFound, "No such exec instance: %s", id)
	}
	return e.e, nil
}

func (f fakeNetworks) Get(ctx context.Context, ref string) (moss.Network, error) {
	list, err := f.List(ctx)
	var found []moss.Network
	for _, n := range list {
		if n.Name == ref || string(n.ID) == ref {
			return n, err
		}
		if strings.HasPrefix(string(n.ID), ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return moss.Network{}, moss.Errorf(moss.NotFound, "network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return moss.Network{}, moss.Errorf(moss.Invalid, "network %s is ambiguous", ref)
}

func (fakeNetworks) Create(_ context.Context, n moss.Network) (moss.NetworkID, string, error) {
	if n.Driver != "bridge" {
		return "", "", moss.Errorf(moss.NotImplemented, "no driver %s", n.Driver)
	}
	if n.Name == "all" && (n.Subnet.String() != "10.7.0.0/16" || n.Range.String() != "10.7.1.0/24" || n.Gateway.String() != "10.7.0.9" || n.Reserved["r"].String() != "10.7.0.7" ||
		!n.Internal || !n.Attachable || !n.IPv6 || !n.Isolated || !n.NoMasquerade || n.MTU != 1400 || n.Link != "mine" || n.Labels["l"] != "v") {
		return "", "", moss.Errorf(moss.Internal, "not carried over: %+v", n)
	}
	return "made1", "a word", nil
}

func (f fakeNetworks) Remove(ctx context.Context, ref string) error {
	if _, err := f.Get(ctx, ref); err != nil {
		return err
	}
	return moss.Errorf(moss.Forbidden, "%s is a pre-defined network and cannot be removed", ref)
}

func (fakeNetworks) Prune(_ context.Context, f moss.PruneFilter) ([]string, error) {
	return f.Labels, nil
}

func (fakeNetworks) Connect(_ context.Context, network, container string, e moss.Endpoint) error {
	return moss.Errorf(moss.Conflict, "%s to %s as %v %v %s", container, network, e.Aliases, e.Address, e.MAC)
}

func (fakeNetworks) Disconnect(_ context.Context, network, container string, force bool) error {
	return moss.Errorf(moss.Conflict, "%s from %s %v", container, network, force)
}

func (fakeNetworks) List(context.Context) ([]moss.Network, error) {
	return []moss.Network{
		{ID: "aaa1", Name: "bridge", Driver: "bridge", Subnet: netip.MustParsePrefix("10.88.0.0/16"), Gateway: netip.MustParseAddr("10.88.0.1"), Link: "moss0"},
		{ID: "aaa2", Name: "host", Driver: "host"},
		{ID: "bbb3", Name: "none", Driver: "null"},
	}, nil
}

var fakeInfo = moss.Info{
	ID: "the-id", Images: 2, Containers: map[moss.State]int{moss.StateRunning: 1, moss.StateExited: 2, moss.StatePaused: 1},
	Host: moss.HostInfo{
		KernelVersion: "6.1.0", OperatingSystem: "Debian GNU/Linux 12", OSVersion: "12", Architecture: "x86_64", CPUs: 2, Memory: 1 << 30,
		Hostname: "host", UID: 1000, SystemdVersion: "252", NetworkDriver: "slirp4netns", NetworkWhy: "pasta is not installed", NetworkBetter: "pasta", NetworkMTU: 65520, Filter: "nftables", NetworkPools: []moss.AddressPool{{Base: netip.MustParsePrefix("172.16.0.0/12"), Size: 16}}, Controllers: []string{"cpu", "memory", "pids"},
		Warnings: []string{"WARNING: no cpuset"},
	},
	Storage: moss.StorageInfo{Driver: "overlay", Status: [][2]string{{"Native", "true"}}}, DataRoot: "/home/u/.local/share/moss",
	Runtimes: map[string]string{"moss-runtime": "/usr/bin/moss-runtime"}, Runtime: "moss-runtime", LogDriver: "json-file",
	Registry: moss.RegistryInfo{Mirrors: []string{"https://near.example.com/"}, Insecure: []string{"registry.example.com:5000", "10.1.2.3/8"}},
}

func (f fakeSystem) Info(context.Context) (moss.Info, error) { return fakeInfo, nil }

func (f fakeSystem) Events(ctx context.Context, _, _ time.Time, fn func(moss.Event) error) error {
	for {
		select {
		case e, ok := <-f.events:
			if !ok {
				return nil
			}
			if err := fn(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newFake() (*Server, *world) {
	w := &world{byRef: map[string]*proc{}, execs: map[string]*fakeExec{}, events: make(chan moss.Event, 16), left: make(chan struct{}, 16)}
	s := New(Options{
		Containers: fakeContainers{w}, Upkeep: fakeContainers{w}, Links: fakeContainers{w}, Views: fakeViews{w}, Use: fakeViews{w}, Volumes: &fakeVolumes{}, Secrets: fakeSecrets{}, Signals: fakeSignals{w}, Execs: fakeExecs{w},
		Images: fakeImages{w}, Archives: fakeArchives{w}, Transfers: fakeTransfers{w}, Registries: fakeRegistries{w},
		Files: fakeFiles{w}, Copies: fakeCopies{w}, Usage: fakeUsage{w}, Networks: fakeNetworks{}, System: fakeSystem{w},
		Log: slog.New(slog.DiscardHandler), Version: "0.1.0", GitCommit: "abc", BuildTime: "2024-01-01T00:00:00Z",
	})
	s.ncpu, s.appArmor, s.selinux = 4, func() bool { return false }, func() bool { return false }
	if allowAll {
		s.o.Plugins = &judges{}
		s.Authorize([]string{"one", "two"})
	}
	return s, w
}

// serve runs the API at a unix socket for the test's length.
func serve(t *testing.T) (socket string, w *world) {
	t.Helper()
	return serveWith(t, func(*Server) {})
}

// serveWith is serve after a change.
func serveWith(t *testing.T, change func(*Server)) (socket string, w *world) {
	t.Helper()
	dir, err := os.MkdirTemp("", "moss-api") // a short path: sun_path holds 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return socket, serveAt(t, l, change)
}

// serveTLS runs the API behind TLS.
func serveTLS(t *testing.T) (*client.Client, *world) {
	t.Helper()
	cert := httptest.NewTLSServer(nil)
	cert.Close()
	pool := x509.NewCertPool()
	pool.AddCert(cert.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	w := serveAt(t, l, func(*Server) {})
	mine := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	c, err := client.New(client.WithHTTPClient(mine), client.WithHost("tcp://"+l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, w
}

func serveAt(t *testing.T, l net.Listener, change func(*Server)) *world {
	t.Helper()
	s, w := newFake()
	change(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, 5*time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.hijacked); n != 0 {
			t.Errorf("%d hijacked connections are left", n)
		}
	})
	return w
}

func dial(t *testing.T, socket string) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
