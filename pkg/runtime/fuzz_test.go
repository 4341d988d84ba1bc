package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// A container writes into its hosts what it likes. Whatever it is: the links are
// there afterwards, doing it again changes nothing, and other lines stay.
func FuzzHostsLinks(f *testing.F) {
	f.Add([]byte("127.0.0.1\tlocalhost\n10.0.0.2\tdb h1 web\n"), "db", "h2")
	f.Add([]byte("x\tdb y\r\n\n\tdb \n10.0.0.2\tdb h1"), "db", "")
	f.Fuzz(func(t *testing.T, text []byte, alias, hostname string) {
		l, err := moss.ParseLink("x:" + alias)
		if err != nil || strings.ContainsAny(hostname, "\n\t ") {
			return
		}
		links := []moss.LinkedHost{{Names: []string{l.Alias, hostname, "name"}, Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd00::9")}}}
		once := changeLinks(text, links)
		for _, line := range linkLines(links) {
			if n := strings.Count("\n"+string(once), "\n"+line); n != 1 {
				t.Errorf("%q has %q %d times", once, line, n)
			}
		}
		if again := changeLinks(once, links); !bytes.Equal(again, once) {
			t.Errorf("%q becomes %q", once, again)
		}
		gone := changeLinks(once, []moss.LinkedHost{{Names: []string{l.Alias}}})
		for line := range strings.Lines(string(gone)) {
			if isLink(line, links[0]) {
				t.Errorf("%q is left", line)
			}
		}
		for line := range strings.Lines(string(text)) {
			if !isLink(line, links[0]) && !bytes.Contains(gone, []byte(strings.TrimSuffix(line, "\n"))) {
				t.Errorf("%q is lost in %q", line, gone)
			}
		}
	})
}

// The host's resolv.conf may be anything; what a container gets can be read back.
func FuzzResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a b\noptions ndots:1 x\ndomain c\n; nameserver 2\n"), true)
	f.Fuzz(func(t *testing.T, host []byte, embedded bool) {
		a := moss.Attachment{Mode: moss.NetworkBridge, DNS: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
		if embedded {
			a.DNS[0] = moss.ResolverAddr
		}
		got := resolvFile(moss.Container{}, a, host)
		if r := parseResolv(got); !slices.Equal(r.servers, []string{a.DNS[0].String()}) {
			t.Errorf("%q asks %q", got, r.servers)
		}
	})
}

// A user's profile: refused, or a filter that the runtime can be given; completing it once is enough.
func FuzzSeccompProfile(f *testing.F) {
	f.Add(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["openat","stat"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}]}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1,"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"name":"clone","action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"}}]}`)
	f.Add(`{}`) // no filter, as with docker
	f.Fuzz(func(t *testing.T, profile string) {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}}}
		p, err := seccompProfile(profile, false, spec)
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%v is %v", err, moss.ClassOf(err))
			}
			return
		}
		if p == nil || profile == "" || profile == "default" || profile == "builtin" {
			return
		}
		if _, err := json.Marshal(p); err != nil {
			t.Error(err)
		}
		n := len(p.Syscalls)
		if admitSuccessors(p); len(p.Syscalls) != n {
			t.Errorf("it is completed twice: %+v", p.Syscalls[n:])
		}
	})
}

// FuzzExtraHost: a line of hosts, or an error; never two lines.
func FuzzExtraHost(f *testing.F) {
	f.Add("name:1.2.3.4")
	f.Add("h:host-gateway")
	f.Add("six:[::1]")
	f.Fuzz(func(t *testing.T, extra string) {
		line, err := extraHost(extra, moss.Attachment{HostIP: netip.MustParseAddr("10.0.0.1")})
		if err == nil && (strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n")) {
			t.Errorf("%q gives %q", extra, line)
		}
	})
}

// FuzzFailure: whatever a runtime's log and stderr have, what becomes of it can be shown on a
// terminal, says something, and is bounded; and the last error of the log is the one that counts.
func FuzzFailure(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"exec: \"nope\": executable file not found in $PATH"}`+"\n"), "last")
	f.Add([]byte(`{"level":"fatal","msg":"moss-runtime: "}`), "executable file `a\x1b[2J` not found in $PATH: No such file or directory")
	f.Add([]byte("panic: runtime error\n\x00"), " \r\n")
	f.Fuzz(func(t *testing.T, log []byte, said string) {
		file := filepath.Join(t.TempDir(), "log")
		check := func(log []byte, stderr string) error {
			if err := os.WriteFile(file, log, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/false")
			cmd.Stderr = &tail{buf: []byte(stderr)}
			err := failed(cmd, errors.New("exit status 1"), file)
			if err == nil {
				t.Fatalf("%q and %q are no error", log, stderr)
			}
			text := err.Error()
			if strings.TrimSpace(text) == "" || len(text) > 32<<10 || !utf8.ValidString(text) {
				t.Errorf("%q and %q: %d bytes, %q", log, stderr, len(text), text)
			}
			if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
				t.Errorf("%q and %q: a control character in %q", log, stderr, text)
			}
			if class := moss.ClassOf(err); class != moss.Internal && class != moss.Invalid {
				t.Errorf("%q and %q: %v", log, stderr, class)
			}
			return err
		}
		check(log, said)
		line, err := json.Marshal(map[string]string{"level": "error", "msg": said})
		if err != nil {
			t.Fatal(err)
		}
		var logged struct{ Msg string }
		if err := json.Unmarshal(line, &logged); err != nil {
			t.Fatal(err)
		}
		want := translate(logged.Msg)
		if want == nil || len(line) > maxLog/2 {
			return
		}
		// Before it may stand anything, also the half of a line that a kill has left.
		if got := check(slices.Concat(log, []byte("\n"), line, []byte("\n")), "stderr"); got.Error() != want.Error() {
			t.Errorf("the last error of %q is %q, and %q is told", log, want, got)
		}
	})
}
