// Package registry gives tests a real registry (Debian's docker-registry) on
// loopback: plain, with TLS, with passwords; a proxy in front that breaks what
// it is told to; and images made for the purpose.
//
//	r := registry.New(t, registry.Options{})
//	p := registry.NewProxy(t, r)
//	made := r.Remote().Push(t, "repo", "tag", registry.Image{Layers: registry.Layers(3, 1<<20)})
//	p.Fault(registry.Fault{Path: "/blobs/" + made.Layers[0].Digest.String(), Times: 2, DropAfter: 1000})
//
// In end-to-end scripts the same are commands: see [Commands].
package registry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// Options say what kind of registry it is.
type Options struct {
	TLS       bool
	ClientTLS bool              // asks for a certificate that the same CA signed
	Users     map[string]string // name to password; nil lets everyone in
	Addr      string            // address it listens on; "" means 127.0.0.1, which is insecure for every client
	Dir       string            // where it keeps its things; "" means a temporary directory
}

// Registry is a running registry.
type Registry struct {
	Host string // address:port
	Dir  string
	CA   *CA // with TLS
	TLS  bool
	User string // one of the users
	Pass string
	cmd  *exec.Cmd
	done chan error
}

// New starts a registry for a test. Without docker-registry the test fails: make deps installs it.
func New(t testing.TB, o Options) *Registry {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// Start starts a registry that is to be stopped.
func Start(o Options) (*Registry, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	r := &Registry{Dir: o.Dir, TLS: o.TLS || o.ClientTLS, done: make(chan error, 1)}
	config, err := r.configure(o)
	if err != nil {
		return nil, err
	}
	r.cmd = exec.Command(bin, "serve", config)
	r.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := r.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		// The parent's death is its thread's: this one must live.
		runtime.LockOSThread()
		started <- r.cmd.Start()
		if r.cmd.Process != nil {
			r.wait(log)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return r, <-r.done
}

var listening = regexp.MustCompile(`listening on ([0-9.:]+)`)

// wait reads the log until the registry listens, and on until it ends.
func (r *Registry) wait(log io.Reader) {
	var seen strings.Builder
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil && r.Host == "" {
			r.Host = m[1]
			r.done <- nil
		} else if r.Host == "" {
			seen.WriteString(lines.Text() + "\n")
		}
	}
	err := r.cmd.Wait()
	if r.Host == "" {
		r.done <- fmt.Errorf("docker-registry ended: %w\n%s", err, seen.String())
	}
	close(r.done)
}

// Stop ends it.
func (r *Registry) Stop() {
	_ = r.cmd.Process.Kill()
	for range r.done {
	}
}

func find() (string, error) {
	if bin, err := exec.LookPath("docker-registry"); err == nil {
		return bin, nil
	}
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		bin := filepath.Join(dir, "bin/tools/docker-registry")
		if _, err := os.Stat(bin); err == nil {
			return bin, nil
		}
	}
	return "", errors.New("docker-registry is not installed: make deps")
}

func (r *Registry) configure(o Options) (string, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
validation: {manifests: {urls: {allow: ["^https?://"]}}}
http:
  addr: %s:0
  relativeurls: true
`, filepath.Join(r.Dir, "data"), o.Addr)
	if r.TLS {
		ca, err := NewCA(filepath.Join(r.Dir, "ca"))
		if err != nil {
			return "", err
		}
		r.CA = ca
		cert, key, err := ca.Issue("server", o.Addr)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  tls:\n    certificate: %q\n    key: %q\n", cert, key)
		if o.ClientTLS {
			fmt.Fprintf(&b, "    clientcas: [%q]\n", ca.Cert)
		}
	}
	if o.Users != nil {
		path := filepath.Join(r.Dir, "htpasswd")
		var users strings.Builder
		for name, pass := range o.Users {
			hash, err := bcrypt.GenerateFromPassword([]byte(pass), bcrypt.MinCost)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&users, "%s:%s\n", name, hash)
			r.User, r.Pass = name, pass
		}
		if err := os.WriteFile(path, []byte(users.String()), 0o600); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "auth:\n  htpasswd: {realm: test, path: %q}\n", path)
	}
	path := filepath.Join(r.Dir, "config.yml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// Remote speaks to it as its user, past any certificate.
func (r *Registry) Remote() Remote {
	m := Remote{URL: "http://" + r.Host, User: r.User, Pass: r.Pass, Client: http.DefaultClient}
	if r.TLS {
		m.URL = "https://" + r.Host
		m.Client = r.CA.Client()
	}
	return m
}
