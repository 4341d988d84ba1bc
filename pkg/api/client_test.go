package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestNewestVersion(t *testing.T) {
	if MaxVersion != client.MaxAPIVersion {
		t.Errorf("MaxVersion is %s, moby's client speaks %s", MaxVersion, client.MaxAPIVersion)
	}
}

func TestClientPing(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	p, err := c.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != MaxVersion || p.OSType != "linux" || c.ClientVersion() != MaxVersion {
		t.Errorf("ping: %+v, client at %s", p, c.ClientVersion())
	}
}

func create(t *testing.T, c *client.Client, cfg container.Config) string {
	t.Helper()
	cfg.Image = "busybox"
	r, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &cfg})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// TestClientAttachEcho sends more than any buffer through an echo and relies on
// the half-close for its end.
func TestClientAttachEcho(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{OpenStdin: true, AttachStdin: true, AttachStdout: true})
	a, err := c.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if mt, _ := a.MediaType(); mt != multiplex {
		t.Errorf("media type %q", mt)
	}
	if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8<<20)
	_, _ = rand.Read(want)
	go func() {
		_, _ = a.Conn.Write(want)
		_ = a.CloseWrite()
	}()
	var got, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&got, &stderr, a.Reader); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) || stderr.Len() != 0 {
		t.Errorf("the echo has %d bytes of %d, stderr %d", got.Len(), len(want), stderr.Len())
	}
}

// A client that is ended before its time is told why, and what it has had is whole.
func TestClientCut(t *testing.T) {
	const why = "it reads too slowly"
	for _, tty := range []bool{false, true} {
		socket, w := serve(t)
		c := dial(t, socket)
		id := create(t, c, container.Config{Tty: tty})
		w.mu.Lock()
		w.byRef[id].cut = moss.Errorf(moss.Unavailable, why)
		w.mu.Unlock()
		a, err := c.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		var got, stderr bytes.Buffer
		if tty {
			_, err = io.Copy(&got, a.Reader)
			if want := "to stdout\nto stderr\n\r\n" + why + "\r\n"; got.String() != want || err != nil {
				t.Errorf("on a terminal: got %q, %v", got.String(), err)
			}
			a.Close()
			continue
		}
		_, err = stdcopy.StdCopy(&got, &stderr, a.Reader)
		if err == nil || !strings.HasSuffix(err.Error(), why) {
			t.Errorf("the stream ends with %v", err)
		}
		if got.String() != "to stdout\n" || stderr.String() != "to stderr\n"+why+"\n" {
			t.Errorf("got %q and %q", got.String(), stderr.String())
		}
		a.Close()
	}
}

func TestClientAttachTTY(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{Tty: true})
	a, err := c.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if mt, _ := a.MediaType(); mt != rawStream {
		t.Errorf("media type %q", mt)
	}
	if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(a.Reader)
	if err != nil || string(out) != "to stdout\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestClientUnreadInput: output must arrive though the process never reads its
// input; closing with input unread would reset the connection.
func TestClientUnreadInput(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{OpenStdin: true})
	a, err := c.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	p, _ := w.get(id)
	w.mu.Lock()
	p.a[0].Stdin = nil
	w.mu.Unlock()
	if _, err := a.Conn.Write([]byte(strings.Repeat("unread", 1000))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, a.Reader); err != nil || out.String() != "to stdout\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// TestClientLeaves: a client that goes away ends its attachment, one that only
// ends its input does not.
func TestClientLeaves(t *testing.T) {
	for _, tc := range []struct{ stdin, tls bool }{{}, {stdin: true}, {tls: true}, {stdin: true, tls: true}} {
		var c *client.Client
		var w *world
		if tc.tls {
			c, w = serveTLS(t)
		} else {
			socket, world := serve(t)
			c, w = dial(t, socket), world
		}
		id := create(t, c, container.Config{OpenStdin: true})
		a, err := c.ContainerAttach(t.Context(), id, client.ContainerAttachOptions{Stream: true, Stdin: tc.stdin, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Conn.Write([]byte("input that nobody reads")); err != nil {
			t.Fatal(err)
		}
		_ = a.CloseWrite()
		select {
		case <-w.left:
			t.Errorf("%+v: ending the input ended the attachment", tc)
		case <-time.After(50 * time.Millisecond):
		}
		a.Close()
		select {
		case <-w.left:
		case <-time.After(time.Minute):
			t.Errorf("%+v: the attachment outlives its client", tc)
		}
	}
}

func TestClientAttachMissing(t *testing.T) {
	socket, _ := serve(t)
	_, err := dial(t, socket).ContainerAttach(t.Context(), "nobody", client.ContainerAttachOptions{Stream: true})
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}

func TestClientWait(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{Cmd: []string{"exit", "7"}})
	// ContainerWait returns once the header is there: before the start.
	w := c.ContainerWait(t.Context(), id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-w.Result:
		if r.StatusCode != 7 || r.Error != nil {
			t.Errorf("got %+v", r)
		}
	case err := <-w.Error:
		t.Error(err)
	}
}

func TestClientLogs(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Details: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	wantOut := "2024-05-06T07:08:09.000000010Z a=1,b=2 one\n"
	wantErr := "2024-05-06T07:08:09.000000010Z  half line\n"
	var out, errs bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = stdcopy.StdCopy(&out, io.MultiWriter(&errs, writerFunc(func(p []byte) (int, error) {
			if bytes.HasSuffix(p, []byte("\n")) {
				cancel() // everything has come while the log goes on
			}
			return len(p), nil
		})), r)
	}()
	<-done
	if out.String() != wantOut || errs.String() != wantErr {
		t.Errorf("got %q and %q", out.String(), errs.String())
	}
	w.noLogs = moss.Errorf(moss.NotImplemented, "configured logging driver does not support reading")
	_, err = c.ContainerLogs(t.Context(), id, client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err == nil || !strings.Contains(err.Error(), "does not support reading") {
		t.Errorf("unreadable log: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestClientExec(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{})
	for _, tc := range []struct {
		cmd, in, want string
		code          int
	}{
		{"true", "", "exec out\n", 0},
		{"cat", "some input", "some input", 0},
		{"missing", "", "exec: \"missing\": executable file not found in $PATH\r\n", 127},
	} {
		e, err := c.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{tc.cmd}, AttachStdin: tc.in != "", AttachStdout: true})
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.ExecAttach(t.Context(), e.ID, client.ExecAttachOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(a.Conn, tc.in)
		_ = a.CloseWrite()
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, a.Reader); err != nil || out.String() != tc.want {
			t.Errorf("%s: got %q, %v", tc.cmd, out.String(), err)
		}
		a.Close()
		st, err := c.ExecInspect(t.Context(), e.ID, client.ExecInspectOptions{})
		if err != nil || st.ExitCode != tc.code {
			t.Errorf("%s: exit code %d, %v", tc.cmd, st.ExitCode, err)
		}
		if _, err := c.ExecStart(t.Context(), e.ID, client.ExecStartOptions{Detach: true}); err == nil {
			t.Errorf("%s: started twice", tc.cmd)
		}
	}
}

func TestClientEvents(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	res := c.Events(t.Context(), client.EventsListOptions{Filters: client.Filters{}.Add("type", "container").Add("event", "start", "exec_start").Add("image", "busybox")})
	at := time.Unix(5, 6)
	for _, e := range []moss.Event{
		{Type: moss.ImageEvent, Action: "tag", ActorID: "sha256:1", Time: at},
		{Type: moss.ContainerEvent, Action: "start", ActorID: "c0", Time: at, Attributes: map[string]string{"image": "alpine:3"}},
		{Type: moss.ContainerEvent, Action: "start", ActorID: "c1", Time: at, Attributes: map[string]string{"image": "busybox:latest", "name": "web"}},
		{Type: moss.ContainerEvent, Action: "exec_start: sh", ActorID: "c2", Time: at, Attributes: map[string]string{"image": "busybox"}},
	} {
		w.events <- e
	}
	for _, want := range []string{"c1", "c2"} {
		select {
		case m := <-res.Messages:
			if m.Actor.ID != want || m.TimeNano != at.UnixNano() || m.Scope != "local" {
				t.Errorf("got %+v, want %s", m, want)
			}
		case err := <-res.Err:
			t.Fatal(err)
		}
	}
}

// TestDockerCLI runs the docker command against the fakes.
func TestDockerCLI(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("there is no docker command")
	}
	socket, _ := serve(t)
	home := t.TempDir()
	for _, tc := range []struct {
		args, in, want string
		code           int
	}{
		{"version --format {{.Server.Platform.Name}}-{{.Server.Version}}", "", "moss-0.1.0\n", 0},
		{"info --format {{.Driver}}/{{.CgroupDriver}}/{{.SecurityOptions}}", "", "overlay/systemd/[name=seccomp,profile=builtin name=rootless name=cgroupns]\n", 0},
		{"run busybox", "", "to stdout\nto stderr\n", 0},
		{"run --rm --name gone busybox exit 9", "", "to stdout\nto stderr\n", 9},
		{"run -i --rm --name echo busybox", "hello", "hello", 0},
		{"ps -a --format {{.Names}}|{{.Status}}", "", "quiet_moss|Exited (0) *", 0},
		{"run -d --name up -p 8080:80 --tmpfs /t -e A=b -v /:/host:ro -m 64m --restart on-failure:3 busybox", "", "*", 0},
		{"inspect -f {{.HostConfig.Memory}},{{.HostConfig.RestartPolicy}},{{.HostConfig.PortBindings}},{{.NetworkSettings.IPAddress}},{{.Config.Env}} up", "", "67108864,{on-failure 3},map[80/tcp:[{ 8080}]],,[A=b]\n", 0},
		{"exec quiet_moss x", "", "exec out\n", 0},
		{"exec quiet_moss missing", "", "exec: \"missing\": executable file not found in $PATH\r\n", 127},
		{"logs quiet_moss", "", "one\nhalf line\n", 0},
		{"images -q --no-trunc busybox", "", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n", 0},
		{"images --format {{.Repository}}:{{.Tag}} me/*", "", "me/tools:1\n", 0},
		{"network ls --format {{.Name}}", "", "bridge\nhost\nnone\n", 0},
		{"volume ls -q", "", "data\n", 0},
		{"volume rm data", "", "Error response from daemon: remove data: volume is in use - [c]\n", 1},
		{"volume prune -f", "", "Deleted Volumes:\ngone\n\nTotal reclaimed space: 7B\n", 0},
		{"secret ls --format {{.Name}}", "", "db\n", 0},
		{"secret create -l k=v n -", "x", "secret n map[k:v] x\n", 0},
		{"secret inspect -f {{.Spec.Name}} db", "", "db\n", 0},
		{"config inspect -f {{.Spec.Name}} db", "", "db\n", 0},
		{"secret rm db", "", "Error response from daemon: secret 'db' is in use*", 1},
		{"run --storage-opt size=1G busybox", "", "docker: Error response from daemon: moss does not do --storage-opt yet: the size of a layer is a project quota*", 125},
		{"pull other:1", "", "Error response from daemon: manifest for other:1 not found: manifest unknown: manifest unknown\n", 1},
		{"pull busybox", "", "Using default tag: latest\nlatest: Pulling from library/busybox\n0123456789ab: Pulling fs layer\n0123456789ab: Pull complete\nDigest: sha256:*", 0},
		{"pull -q busybox", "", "docker.io/library/busybox:latest\n", 0},
		{"search busybox --format {{.Name}}:{{.StarCount}}", "", "busybox:3\n", 0},
		{"save busybox", "", "the tar of busybox", 0},
		{"export quiet_moss", "", "the tree of quiet_moss", 0},
		{"commit -a me -m why -c LABEL=1 quiet_moss a/b:c", "", "sha256:committed\n", 0},
		{"import --message m - x:y", "tar", "sha256:imported\n", 0},
		{"image prune -f -a", "", "Deleted Images:\nuntagged: busybox:latest\ndeleted: " + string(busybox.ID) + "\n\nTotal reclaimed space: 4.321kB\n", 0},
		{"system df --format {{.Type}}={{.TotalCount}}/{{.Active}}={{.Size}}", "", "Images=2/1=6.05kB\nContainers=2/1=17B\nLocal*", 0},
		{"login -u me -p wrong registry.example.com", "", "*", 1},
		{"ps -as --filter name=quiet_moss --format {{.Size}}", "", "17B (virtual 4.34kB)\n*", 0},
		{"rename quiet_moss x", "", "", 0},
		{"rm x", "", "x\n", 0},
		{"container prune -f", "", "Deleted Containers:\n*", 0},
	} {
		cmd := exec.CommandContext(t.Context(), docker, strings.Split(tc.args, " ")...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "HOME="+home)
		cmd.Stdin = strings.NewReader(tc.in)
		out, _ := cmd.CombinedOutput()
		// What follows a * is the client's own, and its versions differ.
		want, open := strings.CutSuffix(tc.want, "*")
		matches := string(out) == want || open && strings.HasPrefix(string(out), want)
		if code := cmd.ProcessState.ExitCode(); code != tc.code || !matches {
			t.Errorf("docker %s: exit code %d, output:\n%q\nwant %d,\n%q", tc.args, code, out, tc.code, tc.want)
		}
	}
}
