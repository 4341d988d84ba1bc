package image

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestApplyChanges(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string
		want    moss.ContainerConfig
	}{
		{"exec form", []string{`CMD ["a", "b c"]`, `ENTRYPOINT ["/x"]`}, moss.ContainerConfig{Cmd: []string{"a", "b c"}, Entrypoint: []string{"/x"}}},
		{"empty exec form", []string{`CMD []`}, moss.ContainerConfig{Cmd: []string{}}},
		{"shell form", []string{`cmd echo "$HOME"`, `Entrypoint exec top -b`}, moss.ContainerConfig{Cmd: []string{"/bin/sh", "-c", `echo "$HOME"`}, Entrypoint: []string{"/bin/sh", "-c", "exec top -b"}}},
		{"no JSON", []string{`CMD ["a", b]`}, moss.ContainerConfig{Cmd: []string{"/bin/sh", "-c", `["a", b]`}}},
		{"env", []string{`ENV A=1 B="two words" C='$A' D=x\ y`, `ENV A=2`}, moss.ContainerConfig{Env: []string{"A=2", "B=two words", "C=$A", "D=x y"}}},
		{"env, old form", []string{`ENV NAME some  value "quoted"`}, moss.ContainerConfig{Env: []string{"NAME=some  value quoted"}}},
		{"env refers back", []string{`ENV A=1`, `ENV A=2 B=$A C=${A}x D=${N:-dflt} E=${A:+set} F=\$A G="${N:+no}"`}, moss.ContainerConfig{Env: []string{"A=2", "B=1", "C=1x", "D=dflt", "E=set", "F=$A", "G="}}},
		{"expose", []string{"EXPOSE 80 53/udp 8000-8002/TCP", "EXPOSE 80/tcp"}, moss.ContainerConfig{ExposedPorts: []moss.Port{{Number: 53, Proto: moss.UDP}, {Number: 80, Proto: moss.TCP}, {Number: 8000, Proto: moss.TCP}, {Number: 8001, Proto: moss.TCP}, {Number: 8002, Proto: moss.TCP}}}},
		{"label", []string{`LABEL a=b "c d"="e f" org.x.y='single "in"'`, `LABEL old form of it`}, moss.ContainerConfig{Labels: map[string]string{"a": "b", "c d": "e f", "org.x.y": `single "in"`, "old": "form of it"}}},
		{"user, workdir", []string{"USER 1000:33", "WORKDIR /a", "WORKDIR b/../c"}, moss.ContainerConfig{User: "1000:33", WorkingDir: "/a/c"}},
		{"relative workdir", []string{"WORKDIR x"}, moss.ContainerConfig{WorkingDir: "/x"}},
		{"volume", []string{`VOLUME ["/b", "/a b"]`, "VOLUME /a /b"}, moss.ContainerConfig{Volumes: []string{"/a", "/a b", "/b"}}},
		{"signal", []string{"STOPSIGNAL SIGQUIT"}, moss.ContainerConfig{StopSignal: "SIGQUIT"}},
		{"onbuild", []string{"ONBUILD RUN make"}, moss.ContainerConfig{OnBuild: []string{"RUN make"}}},
		{"lines", []string{"# nothing\n\nUSER a\nENV A=1 \\\n  B=2\n", "\tWORKDIR\t/x"}, moss.ContainerConfig{User: "a", Env: []string{"A=1", "B=2"}, WorkingDir: "/x"}},
		{"health", []string{`HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --start-interval=1ms --retries=3 cmd curl -f "http://x" || exit 1`}, moss.ContainerConfig{Healthcheck: &moss.Healthcheck{
			Test: []string{"CMD-SHELL", `curl -f "http://x" || exit 1`}, Interval: 5 * time.Second, Timeout: time.Minute, StartPeriod: 2 * time.Second, StartInterval: time.Millisecond, Retries: 3,
		}}},
		{"health, exec form", []string{`HEALTHCHECK NONE`, `HEALTHCHECK CMD ["a", "b c"]`}, moss.ContainerConfig{Healthcheck: &moss.Healthcheck{Test: []string{"CMD", "a", "b c"}}}},
		{"no health", []string{`HEALTHCHECK none`}, moss.ContainerConfig{Healthcheck: &moss.Healthcheck{Test: []string{"NONE"}}}},
		{"none", nil, moss.ContainerConfig{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := applyChanges(c.changes)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestApplyChangesRefuses(t *testing.T) {
	for change, words := range map[string]string{
		"RUN make":                          "RUN is not a valid change command",
		"FROM x":                            "FROM is not a valid change command",
		"HEALTHCHECK true":                  "CMD or NONE",
		"HEALTHCHECK CMD":                   "no command",
		"HEALTHCHECK CMD []":                "no command",
		"HEALTHCHECK NONE x":                "no arguments",
		"HEALTHCHECK --interval=soon CMD x": "no time",
		"HEALTHCHECK --interval=10us CMD x": "no time",
		"HEALTHCHECK --retries=-1 CMD x":    "number",
		"HEALTHCHECK --often=1s CMD x":      "unknown flag --often",
		"CMD":                               "no arguments",
		"ENV":                               "no arguments",
		"ENV A":                             "a name and a value",
		"ENV A=1 B":                         "name=value",
		"ENV =x":                            "empty",
		`ENV A="x`:                          "not closed",
		"ENV A=${B":                         "not closed",
		"ENV A=${B?x}":                      ":- and :+",
		"ENV A=${}":                         "no name",
		`LABEL a='b`:                        "not closed",
		"EXPOSE x":                          `"x"`,
		"EXPOSE 0":                          "1 to 65535",
		"EXPOSE 70000":                      "1 to 65535",
		"EXPOSE 9-8":                        "range",
		"EXPOSE 80/icmp":                    "protocol",
		"USER a b":                          "exactly one",
		"VOLUME ['']":                       "",
		`VOLUME [""]`:                       "no path",
		"STOPSIGNAL SIGNOPE":                "SIGNOPE",
		"ONBUILD ONBUILD x":                 "ONBUILD",
		"ONBUILD from x":                    "FROM",
	} {
		_, err := applyChanges([]string{change})
		if change == "VOLUME ['']" {
			if err != nil {
				t.Errorf("%q: %v; it is a word, not JSON", change, err)
			}
			continue
		}
		if moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), strconv.Quote(change)) {
			t.Errorf("%q gives %v", change, err)
		}
	}
}

func FuzzChanges(f *testing.F) {
	for _, s := range []string{`ENV A=1 B="x $A" C='y'`, `LABEL "a b"=c`, "EXPOSE 80 8000-8010/udp", `CMD ["a"]`, "ENV A ${A:-b}", "VOLUME /a\\", "WORKDIR ../x", "ONBUILD x", "HEALTHCHECK --retries=2 CMD x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := applyChanges([]string{s})
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%q: class of %v", s, err)
			}
			return
		}
		for _, e := range c.Env {
			if i := strings.IndexByte(e, '='); i < 1 {
				t.Errorf("%q: variable %q", s, e)
			}
		}
		if c.WorkingDir != "" && (c.WorkingDir[0] != '/' || slices.Contains(strings.Split(c.WorkingDir, "/"), "..")) {
			t.Errorf("%q: working directory %q", s, c.WorkingDir)
		}
		// What can be imported can be written and read.
		im := moss.Image{Config: c}
		b, err := encodeBuilt(building{image: im})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeConfig(b); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"ExposedPorts":{"80/tcp":{}}},"rootfs":{"diff_ids":["sha256:x"]}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeConfig(b) })
}
