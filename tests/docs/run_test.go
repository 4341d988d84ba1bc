package docs

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moss-containers/moss/tests/busybox"
	"github.com/moss-containers/moss/tests/registry"
	"github.com/moss-containers/moss/tests/turn"
)

// prefix keeps the engine of the documentation apart from the reader's own.
const prefix = "mossdocs"

// engine is where one page's commands run: a shell's environment with
// throwaway directories, in which `moss setup` makes an engine.
type engine struct {
	top string
	env []string
	own *strings.Replacer // what stands for something of the reader's
}

// ownHost is the pages' name of a registry that wants a login as ownUser with
// $PASSWORD.
const ownHost, ownUser = "registry.example.com", "me"

// ownNames are what the pages say of an engine called moss, and what must be
// said of one with another prefix: the flag, the directory and the units.
var ownNames = []struct{ pattern, with string }{
	{`\bmoss setup\b`, "moss setup --runtime --prefix " + prefix},
	{`\bmoss doctor\b`, "moss doctor --prefix " + prefix},
	{`\$XDG_RUNTIME_DIR/moss/`, "$$XDG_RUNTIME_DIR/" + prefix + "/"},
	// The test's setup is for a boot only, and writes no context.
	{`\bdocker --context moss\b`, `docker context create moss --docker "host=unix://$$XDG_RUNTIME_DIR/` + prefix + `/moss.sock" >/dev/null 2>&1 && docker --context moss`},
	{`\bmoss(-rootless|-\$|-…|\.(?:socket|service|slice))`, prefix + "$1"},
}

// here makes a command of a page one for the test's engine.
func here(text string, own *strings.Replacer) string {
	for _, n := range ownNames {
		text = regexp.MustCompile(n.pattern).ReplaceAllString(text, n.with)
	}
	return own.Replace(text)
}

// notRun are the first words of commands that TestNames looks at instead.
var notRun = regexp.MustCompile(`^(make|git|sudo|cd)\b`)

func TestREADME(t *testing.T)   { runPage(t, "README.md") }
func TestTutorial(t *testing.T) { runPage(t, "docs/tutorial.md") }

// runPage runs a page's commands, one after the other in one shell, and
// compares what they print with what the page shows.
func runPage(t *testing.T, name string) {
	e := newEngine(t)
	p := page{name, read(t, name)}
	var (
		script strings.Builder
		run    []command
	)
	for _, c := range p.commands() {
		if notRun.MatchString(c.text) {
			continue
		}
		n := len(run)
		run = append(run, c)
		e.write(t, fmt.Sprintf("%d.in", n), strings.Join(c.typed(), "\n")+"\n")
		text := here(c.text, e.own)
		if c.interactive() {
			e.write(t, fmt.Sprintf("%d.sh", n), text+"\n")
			text = fmt.Sprintf(`script -qec "bash %s/%d.sh" /dev/null`, e.top, n)
		}
		fmt.Fprintf(&script, "{ %s\n} >%[2]s/%[3]d.out 2>&1 <%[2]s/%[3]d.in\nrc=$?; echo $rc >%[2]s/%[3]d.rc; [ $rc = 0 ] || exit 1\n", text, e.top, n)
	}
	if len(run) < 5 {
		t.Fatalf("only %d commands of %s can be run", len(run), name)
	}
	shell := e.command("bash", "-c", script.String())
	shell.Dir = filepath.Join(e.top, "home")
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Logf("the shell: %v\n%s", err, out)
	}
	for n, c := range run {
		at := fmt.Sprintf("%s:%d: %s", name, c.line, c.text)
		rc, err := os.ReadFile(fmt.Sprintf("%s/%d.rc", e.top, n))
		if err != nil {
			t.Fatalf("%s\nwas not run", at)
		}
		printed, err := os.ReadFile(fmt.Sprintf("%s/%d.out", e.top, n))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s\n%s", at, printed)
		if strings.TrimSpace(string(rc)) != "0" {
			journal, _ := e.command("journalctl", "--user", "--no-pager", "-q", "-n", "40", "-u", prefix+"*").CombinedOutput()
			t.Fatalf("%s\nended with exit status %s%s\n%s", at, rc, printed, journal)
		}
		if why := c.differs(printed, e.own); why != "" {
			t.Errorf("%s\n%s", at, why)
		}
	}
}

// differs says how output is not what the page shows: "…" stands for any text
// in a line, a line of its own for any lines.
func (c command) differs(printed []byte, own *strings.Replacer) string {
	if !c.shows {
		return ""
	}
	got := strings.TrimSpace(strings.ReplaceAll(string(printed), "\r\n", "\n"))
	if c.interactive() { // the terminal shows what is typed, somewhere
		for _, line := range c.output {
			if line != "…" && !strings.HasPrefix(line, shellPrompt) && !strings.Contains(got, line) {
				return fmt.Sprintf("does not print %q, but:\n%s", line, got)
			}
		}
		return ""
	}
	want := here(strings.TrimSpace(strings.Join(c.output, "\n")), own)
	re := regexp.QuoteMeta(want)
	re = regexp.MustCompile(`(?m)^…$`).ReplaceAllString(re, `(?s:.*)`)
	re = regexp.MustCompile(` +`).ReplaceAllString(re, ` +`) // columns move
	re = strings.ReplaceAll(re, "…", `[^\n]*`)
	if regexp.MustCompile(`^` + re + `$`).MatchString(got) {
		return ""
	}
	return fmt.Sprintf("prints\n%s\nand not\n%s", got, want)
}

// shellPrompt is that of busybox's shell: what follows it, a page's reader types.
const shellPrompt = "/ # "

func (c command) interactive() bool { return regexp.MustCompile(` -(it|ti)\b`).MatchString(c.text) }

func (c command) typed() (lines []string) {
	for _, line := range c.output {
		if text, ok := strings.CutPrefix(line, shellPrompt); ok {
			lines = append(lines, text)
		}
	}
	return lines
}

func TestDiffers(t *testing.T) {
	own := strings.NewReplacer("8080", "1234")
	show := func(lines ...string) command { return command{shows: true, output: lines} }
	for _, c := range []struct {
		command
		printed string
		same    bool
	}{
		{show("a"), "a\n", true},
		{show("a"), "b\n", false},
		{show("a"), "a\nb\n", false},
		{show("a b"), "a    b\n", true},
		{show("a.c"), "abc\n", false},
		{show("a", "…"), "a\nb\nc\n", true},
		{show("a…z"), "abcz\n", true},
		{show("a…z"), "ab\ncz\n", false},
		{show(), "a\n", false},
		{show("8080"), "1234\n", true},
		{command{output: []string{"a"}}, "b\n", true},
	} {
		if got := c.differs([]byte(c.printed), own); (got == "") != c.same {
			t.Errorf("%q shown and %q printed: %q", c.output, c.printed, got)
		}
	}
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	bin := os.Getenv("MOSS_BIN")
	if bin == "" || os.Getenv("XDG_RUNTIME_DIR") == "" {
		t.Skip("needs an engine: run it through make test PKG=./tests/docs")
	}
	if err := turn.Take(); err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("", prefix+"-") // t.TempDir cannot remove what belongs to sub-ids
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{top: top, own: strings.NewReplacer("8080", freePort(t), ownHost, privateRegistry(t))} // port 8080 may be in use
	if err := os.MkdirAll(filepath.Join(top, "home"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A static one under its name, as Debian's busybox-static installs it.
	box, err := busybox.Find()
	if err == nil {
		err = os.MkdirAll(filepath.Join(top, "bin"), 0o755)
	}
	if err == nil {
		err = os.Symlink(box, filepath.Join(top, "bin/busybox"))
	}
	if err != nil {
		t.Fatal(err)
	}
	e.mirror(t)
	e.env = []string{
		"PATH=" + strings.Join([]string{filepath.Join(top, "bin"), bin, filepath.Join(bin, "tools"), os.Getenv("PATH")}, ":"),
		"HOME=" + filepath.Join(top, "home"),
		"XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"),
		"DBUS_SESSION_BUS_ADDRESS=" + os.Getenv("DBUS_SESSION_BUS_ADDRESS"),
		"XDG_DATA_HOME=" + filepath.Join(top, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(top, "config"),
		"DOCKER_CONFIG=" + filepath.Join(top, "docker"),
		"PASSWORD=secret",
		"SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "TERM=dumb",
	}
	t.Cleanup(func() {
		// A page may have taken its engine away itself.
		if e.command("systemctl", "--user", "cat", prefix+".socket").Run() == nil {
			if out, err := e.command("moss", "setup", "--uninstall", "--runtime", "--prefix", prefix).CombinedOutput(); err != nil {
				t.Errorf("cannot take the engine away: %v: %s", err, out)
			}
		}
		// Layers belong to sub-ids: only the user namespace may remove them.
		if out, err := e.command("unshare", "--user", "--map-auto", "--map-root-user", "rm", "-rf", top).CombinedOutput(); err != nil {
			t.Errorf("cannot remove %s: %v: %s", top, err, out)
		}
	})
	return e
}

// mirror gives the engine a docker.io that needs no network, with busybox.
func (e *engine) mirror(t *testing.T) {
	t.Helper()
	hub := registry.New(t, registry.Options{})
	layer, err := busybox.Layer()
	if err != nil {
		t.Fatal(err)
	}
	hub.Remote().Push(t, "library/busybox", "latest", registry.Image{Layers: []registry.Layer{{Tar: layer}}, Cmd: []string{"sh"}})
	if err := os.MkdirAll(filepath.Join(e.top, "config", prefix), 0o700); err != nil {
		t.Fatal(err)
	}
	e.write(t, filepath.Join("config", prefix, "daemon.json"), fmt.Sprintf(`{"registry-mirrors": ["http://%s"]}`, hub.Host))
}

// privateRegistry starts the registry that the pages call ownHost.
func privateRegistry(t *testing.T) string {
	t.Helper()
	return registry.New(t, registry.Options{Users: map[string]string{ownUser: "secret"}}).Host
}

func (e *engine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/env", append([]string{name}, args...)...)
	cmd.Env = e.env
	return cmd
}

func (e *engine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.top, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// moss runs the command line program and returns what it prints.
func moss(t *testing.T, args ...string) string {
	t.Helper()
	bin := os.Getenv("MOSS_BIN")
	if bin == "" {
		bin = filepath.Join(root, "bin")
	}
	path, err := filepath.Abs(filepath.Join(bin, "moss"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("moss is not built: make build")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("moss %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}
