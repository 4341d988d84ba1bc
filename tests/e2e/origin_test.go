package e2e

import (
	"bufio"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/tests/registry"
)

// origin is a registry behind a proxy, and what an image there is made of.
type origin struct {
	*registry.Registry
	proxy *registry.Proxy
}

func newOrigin(t *testing.T) origin {
	t.Helper()
	r := registry.New(t, registry.Options{})
	return origin{r, registry.NewProxy(t, r)}
}

// ref is an image's name as pulled through the proxy.
func (o origin) ref(name string) string { return o.proxy.Host + "/" + name }

// sent is how much of a blob's bytes went out, and in how many answers.
func (o origin) sent(digest string) (bytes int64, times int) {
	for _, r := range o.proxy.Seen("GET", "/blobs/"+digest) {
		bytes, times = bytes+r.Sent, times+1
	}
	return bytes, times
}

// client is a command that is running.
type client struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	lines []string // of both its streams
	err   error
}

// begin starts a command with the engine's environment.
func begin(t *testing.T, args ...string) *client {
	t.Helper()
	c := &client{cmd: exec.Command("/usr/bin/env", args...), done: make(chan struct{})}
	c.cmd.Env = suite.env()
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w := io.Pipe()
	c.cmd.Stdout, c.cmd.Stderr = w, w
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := c.cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		w.Close()
	}()
	go func() {
		defer close(c.done)
		for s := bufio.NewScanner(r); s.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, s.Text())
			c.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

// wait waits for its end.
func (c *client) wait() (string, error) {
	<-c.done
	return c.now(), c.err
}

func (c *client) now() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

// count is how many of its lines end so.
func (c *client) count(end string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lines {
		if strings.HasSuffix(l, end) {
			n++
		}
	}
	return n
}

// until waits for something to come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// inData runs a command in the engine's data directory, as the root of the user's sub-ids.
func inData(t *testing.T, script string) string {
	t.Helper()
	return must(t, "unshare", "--user", "--map-auto", "--map-root-user", "sh", "-c",
		"cd "+filepath.Join(suite.top, "data", prefix)+" && "+script)
}

// stored lists what is in the data directory but for the database, the lists and what is
// deleted behind the answers; directories that stay when they are empty are not in it.
func stored(t *testing.T) []string {
	t.Helper()
	return strings.Fields(inData(t, `find . -mindepth 2 \( -path ./tmp/doomed -o -path ./storage/scrap \) -prune -o \( -path ./storage/overlay/staging -o -name tempdirs -o -name tmp -o -path './storage/overlay-*/*.json*' \) -o -print | sed 's#/overlay/l/.*#/overlay/l/link#'`))
}

// emptied waits until the data directory has nothing that it did not have.
func emptied(t *testing.T, before []string) {
	t.Helper()
	var more []string
	ok := func() bool {
		had := slices.Clone(before)
		more = slices.DeleteFunc(stored(t), func(f string) bool {
			i := slices.Index(had, f)
			if i >= 0 {
				had = slices.Delete(had, i, i+1) // links have no names of their own
			}
			return i >= 0
		})
		doomed := strings.Fields(inData(t, `find tmp/doomed storage/scrap -mindepth 1`))
		more = append(more, doomed...)
		return len(more) == 0
	}
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are left behind: %q", len(more), more[:min(len(more), 20)])
		}
	}
}
