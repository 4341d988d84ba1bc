package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func TestNormalize(t *testing.T) {
	root := (&app{}).root()
	for in, want := range map[string]string{
		"moss run -it busybox sh -c x":                   "moss run --interactive --tty -- busybox sh -c x",
		"moss run -p8080:80 -eA=1 -e B=2 img":            "moss run --publish=8080:80 --env=A=1 --env B=2 -- img",
		"moss run --name x --rm img --rm":                "moss run --name x --rm -- img --rm",
		"moss run --name=x img":                          "moss run --name=x -- img",
		"moss run -itdp 80:80 img":                       "moss run --interactive --tty --detach --publish 80:80 -- img",
		"moss run -d=false img":                          "moss run --detach=false -- img",
		"moss rm web -f db":                              "moss rm --force -- web db",
		"moss logs web --tail 5 -f":                      "moss logs --tail 5 --follow -- web",
		"moss exec -it web sh -l":                        "moss exec --interactive --tty -- web sh -l",
		"moss exec web ls -- -x":                         "moss exec -- web ls -- -x",
		"moss -H unix:///x ps -aq":                       "moss --host unix:///x ps --all --quiet",
		"moss --host=unix:///x ps":                       "moss --host=unix:///x ps",
		"moss run --net a --network=b -m 1g img":         "moss run --network a --network=b --memory 1g -- img",
		"moss run -Z img":                                "moss run -Z -- img",
		"moss run -- img -it":                            "moss run -- img -it",
		"moss nosuch -x":                                 "moss nosuch -x",
		"moss ps --filter name=a --filter status=exited": "moss ps --filter name=a --filter status=exited",
		"moss": "moss",
	} {
		got := strings.Join(normalize(root, strings.Fields(in)), " ")
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestDetachSequence(t *testing.T) {
	for in, want := range map[string][]byte{"": {16, 17}, "ctrl-a": {1}, "ctrl-p,q": {16, 'q'}, "ctrl-[": {27}} {
		if got, err := detachSequence(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, bad := range []string{"ctrl-1", "ab", "ctrl-", "a,,b"} {
		if _, err := detachSequence(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestWatcherSeesTheKeysAcrossReads(t *testing.T) {
	found := 0
	w := &watcher{from: &oneByOne{"a\x10b\x10\x10\x11c"}, keys: defaultDetachKeys, found: func() { found++ }}
	var got bytes.Buffer
	if _, err := got.ReadFrom(w); err != nil || got.String() != "a\x10b\x10\x10\x11c" || found != 1 {
		t.Errorf("%q, found %d, %v", got.String(), found, err)
	}
}

type oneByOne struct{ rest string }

func (o *oneByOne) Read(p []byte) (int, error) {
	if o.rest == "" {
		return 0, os.ErrClosed
	}
	p[0] = o.rest[0]
	o.rest = o.rest[1:]
	if o.rest == "" {
		return 1, io.EOF
	}
	return 1, nil
}

// run1 runs moss as main does and returns what it says.
func run1(t *testing.T, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	code = run(t.Context(), append([]string{"moss"}, args...), streams{in: null, out: &stdout, err: &stderr}, func(k string) string { return env[k] })
	return code, stdout.String(), stderr.String()
}

func TestErrorsSayTheWayOut(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": t.TempDir()}
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"ps", 1, "set it up with: moss setup"},
		{"nosuch", 1, "moss --help"},
		{"rm", 1, "at least 1 argument"},
		{"run", 1, "at least 1 argument"},
		{"run --no-such-flag img", 125, "see 'moss run --help'"},
		{"run --pull sometimes img", 125, "always, missing, never"},
		{"run --memory x img", 125, "--memory"},
		{"create --memory x img", 125, "--memory"},
		{"run -e =x img", 125, `cannot use --env "=x": it has no name`},
		{"run -l =x img", 125, `cannot use --label "=x": it has no name`},
		{"run -p x:y:z:w img", 125, "--publish"},
		{"run --mount type=bind,bogus=1 img", 125, `unknown setting "bogus"`},
		{"run --mount type=volume,target=/v,idmap img", 125, `moss does not map the ids of mounts`},
		{"run --attach stdin -d img", 125, "exclude each other"},
		{"ps --filter x", 125, "KEY=VALUE"},
		{"inspect --type plugin x", 1, "none of container, image, network, volume"},
	} {
		code, _, errs := run1(t, env, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.text) {
			t.Errorf("moss %s: %d %q, want %d %q", c.args, code, errs, c.code, c.text)
		}
	}
}

func TestHostComesFromFlagThenEnvironment(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/7", "DOCKER_HOST": "unix:///d", "MOSS_HOST": "unix:///m"}
	get := func(k string) string { return env[k] }
	for _, want := range []string{"unix:///f", "unix:///m", "unix:///d", "unix:///run/user/7/moss/moss.sock"} {
		a := &app{getenv: get}
		switch want {
		case "unix:///f":
			a.host = "unix:///f"
		case "unix:///d":
			delete(env, "MOSS_HOST")
		case "unix:///run/user/7/moss/moss.sock":
			delete(env, "DOCKER_HOST")
		}
		if got := a.hostURL(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestPrefixComesFromTheSocket(t *testing.T) {
	for host, want := range map[string]string{"unix:///run/user/7/moss-dev/moss.sock": "moss-dev", "": "moss", "tcp://127.0.0.1:2375": "moss", "unix:///x/docker.sock": "moss"} {
		a := &app{getenv: func(string) string { return "" }, host: host}
		if got := a.prefix(); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
	}
}

func TestParseMount(t *testing.T) {
	m, err := parseMount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave")
	if err != nil || m.Source != "/a" || m.Target != "/b" || !m.ReadOnly || m.BindOptions.Propagation != "rslave" {
		t.Errorf("%+v %v", m, err)
	}
	m, err = parseMount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
	if err != nil || m.TmpfsOptions.SizeBytes != 1<<20 || m.TmpfsOptions.Mode != 0o1770 {
		t.Errorf("%+v %v", m, err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = parseMount("type=bind,source=./x,target=/x"); err != nil || m.Source != filepath.Join(here, "x") {
		t.Errorf("%+v %v", m, err)
	}
}

func TestPrintRows(t *testing.T) {
	rows := []map[string]string{{"ID": "1", "Names": "a"}, {"ID": "22", "Names": "b", labelKey + "org.x_y": "z"}}
	columns := []column{{"ID", "CONTAINER ID"}, {"Names", "NAMES"}}
	for format, want := range map[string]string{
		"":                                    "CONTAINER ID   NAMES\n1              a\n22             b\n",
		"{{.Names}}":                          "a\nb\n",
		`{{.ID}}\t{{.Names}}`:                 "1\ta\n22\tb\n",
		"table {{.Names}}":                    "NAMES\na\nb\n",
		"json":                                `{"ID":"1","Names":"a"}` + "\n" + `{"ID":"22","Names":"b"}` + "\n",
		`table {{.ID}}\t{{.Label "org.x_y"}}`: "CONTAINER ID   x y\n1              \n22             z\n",
		"{{json .}}":                          `{"ID":"1","Names":"a"}` + "\n" + `{"ID":"22","Names":"b"}` + "\n",
		"{{upper .Names}}{{json .ID}}":        "A\"1\"\nB\"22\"\n",
	} {
		var b bytes.Buffer
		if err := printRows(&b, format, "{{.ID}}\t{{.Names}}", columns, rows); err != nil {
			t.Errorf("%q: %v", format, err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%q: %s", format, d)
		}
	}
	for _, bad := range []string{"{{.Nope}}", "{{"} {
		if err := printRows(&bytes.Buffer{}, bad, "", columns, rows); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Files of variables are read and refused as docker's client does.
func TestPairsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	for text, want := range map[string]string{
		"\ufeffA=1\r\n\n  # no\n\tB= x y \nC\n": "[A=1 B= x y  C]",
		"a b=1\n":                               "variable 'a b' contains whitespaces",
		"OK=1\nA =1":                            "variable 'A ' contains whitespaces",
		"=1":                                    "no variable name on line '=1'",
		"A=\xff":                                "invalid utf8 bytes at line 1",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lines, err := pairsFile(path)
		if got := fmt.Sprint(lines); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s %v", text, got, err)
		}
	}
}

// TestAlone has each command that is made alone equal the one among all.
func TestAlone(t *testing.T) {
	a := &app{}
	for _, name := range []string{"run", "exec", "ps"} {
		alone := a.alone(name)
		if alone == nil {
			t.Fatalf("%s is not made alone", name)
		}
		flags := func(c *cli.Command) (all []string) {
			for _, f := range c.Flags {
				all = append(all, f.String())
			}
			return all
		}
		among := lookup(a.root().Commands, name)
		if diff := cmp.Diff(flags(among), flags(alone)); diff != "" || alone.Usage != among.Usage || alone.ArgsUsage != among.ArgsUsage {
			t.Errorf("%s alone is another:\n%s", name, diff)
		}
		if one := a.root("moss", name).Commands; len(one) != 1 {
			t.Errorf("moss %s makes %d commands", name, len(one))
		}
	}
}

// An address that only docker's client can use is refused with the way out.
func TestSSHAddress(t *testing.T) {
	a := &app{host: "ssh://me@server", getenv: func(string) string { return "" }}
	if _, err := a.api(); err == nil || !strings.Contains(err.Error(), "run docker with it") {
		t.Errorf("got %v", err)
	}
}
