package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// programs does something and returns what the log says of seccomp programs
// meanwhile: the runtime had none ("compiled") or could not keep it ("unkept"),
// init used the one it was "given" or had to compile its own ("other").
func (c *container) programs(do func()) []string {
	c.t.Helper()
	logged := len(c.read("log"))
	do()
	var got []string
	for line := range strings.Lines(c.read("log")[logged:]) {
		for words, name := range map[string]string{
			"seccomp: no program is kept":                 "compiled",
			"seccomp: the program is not kept":            "unkept",
			"seccomp: the program was given":              "given",
			"seccomp: another filter's program was given": "other",
		} {
			if strings.Contains(line, words) {
				got = append(got, name)
			}
		}
	}
	return got
}

func seccompContainer(t *testing.T, script string) (c *container, dir string) {
	t.Helper()
	c = newContainer(t, "sh", "-c", script)
	c.debug = true
	c.spec.Linux.Seccomp = dockerSeccomp(t, c.spec, false)
	return c, c.root + "-seccomp"
}

// cached is the file of the one program that is kept.
func cached(t *testing.T, dir string) string {
	t.Helper()
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var programs []string
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "moss seccomp profile ") { // what stands in for it
			programs = append(programs, file)
		}
	}
	if st.Mode().Perm() != 0o700 || len(programs) != 1 || len(entries) > 2 {
		t.Fatalf("mode %v, entries %v", st.Mode(), entries)
	}
	return programs[0]
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: programs %q, want %q", what, got, want)
	}
}

// The first start compiles; what starts afterwards, execs too, is given the
// program, and it is the profile that it was before.
func TestSeccompProgramIsKept(t *testing.T) {
	for _, noNewPrivs := range []bool{false, true} {
		// /proc/1/fd: of what init had, nothing is left.
		c, dir := seccompContainer(t, "grep Seccomp /proc/1/status; ls /proc/1/fd; readlink /proc/1/cwd; sleep 100")
		c.spec.Process.NoNewPrivileges = noNewPrivs
		good := "Seccomp:\t2\nSeccomp_filters:\t1\n0\n1\n2\n/\n"
		output := func() {
			t.Helper()
			waitFor(t, "the output", func() bool { return strings.HasSuffix(c.read("stdout"), "/\n") })
			if got := c.read("stdout"); got != good {
				t.Errorf("output %q, want %q", got, good)
			}
			if err := os.Remove(filepath.Join(filepath.Dir(c.bundle), "stdout")); err != nil {
				t.Fatal(err)
			}
			c.do("exec", c.id, "busybox", "unshare", "-U", "true").fails(1, "Operation not permitted")
		}
		want(t, "first", c.programs(c.up), "compiled", "given")
		file := cached(t, dir)
		first, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		output()
		want(t, "exec", c.programs(func() {
			if got := c.do("exec", c.id, "sh", "-c", "grep Seccomp /proc/self/status; ls /proc/$$/fd; true").ok(); got != "Seccomp:\t2\nSeccomp_filters:\t1\n0\n1\n2\n" {
				t.Errorf("exec: %q", got)
			}
		}), "given")
		again := func(what string, programs ...string) {
			t.Helper()
			c.do("delete", "--force", c.id).ok()
			want(t, what, c.programs(c.up), programs...)
			output()
		}
		again("second", "given")
		if now, err := os.Stat(cached(t, dir)); err != nil || !os.SameFile(first, now) {
			t.Errorf("the entry is another now (%v)", err)
		}

		if err := os.Truncate(file, 1000); err != nil {
			t.Fatal(err)
		}
		again("damaged", "compiled", "given")
		again("healed", "given")
		// A place that cannot be used.
		if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		again("no directory", "compiled", "unkept", "given")
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// An exec has the container's own program or does not start.
func TestSeccompExecFailsClosed(t *testing.T) {
	c, dir := seccompContainer(t, "sleep 100")
	c.up()
	state, own := filepath.Join(c.root, c.id), filepath.Join(c.root, c.id, "seccomp")
	if kept, err := os.ReadFile(filepath.Join(state, "state.json")); err != nil || strings.Contains(string(kept), `"accept4"`) {
		t.Errorf("the state has the whole profile (%v)", err)
	}
	// What others keep is of no matter to it.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	try := []string{"exec", c.id, "busybox", "unshare", "-U", "true"}
	c.do(try...).fails(1, "Operation not permitted")
	for what, data := range map[string][]byte{"damaged": good[:len(good)-8], "empty": nil} {
		if err := os.WriteFile(own, data, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Log(what)
		c.do(try...).fails(255, "seccomp program")
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	c.do(try...).fails(255, "seccomp program is not there")
	if err := os.WriteFile(own, good, 0o600); err != nil {
		t.Fatal(err)
	}
	c.do(try...).fails(1, "Operation not permitted")
}

// The program goes beside everything else a process is given.
func TestSeccompBesideOtherDescriptors(t *testing.T) {
	c, _ := seccompContainer(t, "ls /proc/1/fd; cat <&4; sleep 100")
	three, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer three.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("preserved\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	create := c.launch("create", "--preserve-fds", "2")
	create.ExtraFiles = []*os.File{three, r}
	out := c.output("stdout")
	create.Stdout = out
	want(t, "create", c.programs(func() {
		if err := create.Run(); err != nil {
			t.Fatal(err)
		}
	}), "compiled", "given")
	out.Close()
	c.do("start", c.id).ok()
	waitFor(t, "the output", func() bool { return strings.HasSuffix(c.read("stdout"), "preserved\n") })
	if got := c.read("stdout"); got != "0\n1\n2\n3\n4\npreserved\n" {
		t.Errorf("output %q", got)
	}

	path, master := listenConsole(t)
	want(t, "exec with a terminal", c.programs(func() {
		c.do("exec", "--tty", "--detach", "--console-socket", path, c.id, "sh", "-c", "ls -1 /proc/$$/fd; echo end").ok()
	}), "given")
	m := master()
	defer m.Close()
	for _, line := range []string{"0", "1", "2", "end"} {
		if got := readLine(t, m); got != line {
			t.Errorf("descriptors: %q, want %q", got, line)
		}
	}
}

// Who asks for no profile gets no directory.
func TestNoSeccompNoCache(t *testing.T) {
	c := newContainer(t, "sh", "-c", "ls /proc/1/fd; true")
	c.debug = true
	want(t, "run", c.programs(func() {
		if got := c.run().ok(); got != "0\n1\n2\n" {
			t.Errorf("descriptors %q", got)
		}
	}))
	if _, err := os.Stat(c.root + "-seccomp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache: %v", err)
	}
}
