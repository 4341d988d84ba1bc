package bench

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v                []float64
		median, quartile float64
	}{
		{nil, 0, 0},
		{[]float64{3}, 3, 3},
		{[]float64{9, 1, 5}, 5, 1},
		{[]float64{4, 1, 3, 2}, 2.5, 1},
		{[]float64{8, 7, 6, 5, 4, 3, 2, 1, 0}, 4, 2},
	} {
		if m, q := median(c.v), quarter(c.v); m != c.median || q != c.quartile {
			t.Errorf("%v: median %v, quartile %v; want %v, %v", c.v, m, q, c.median, c.quartile)
		}
	}
}

func TestParseUsage(t *testing.T) {
	got, err := parseUsage("usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n")
	if want := (cpuTime{1234 * time.Microsecond, time.Millisecond}); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, part := range []string{"user_usec 1\n", "usage_usec 1\n"} {
		if _, err := parseUsage(part); err == nil {
			t.Errorf("%q must be an error: what lacks would pass for no time at all", part)
		}
	}
}

func TestFigureBites(t *testing.T) {
	if !(figure{"x", 1.8, 1.8}).met() || (figure{"x", 1.81, 1.8}).met() {
		t.Error("a figure holds up to its limit and no further")
	}
}

func TestSmaps(t *testing.T) {
	const rollup = "55d0-7fff ---p 00000000 00:00 0 [rollup]\nRss:  9000 kB\nPss:  1500 kB\nPss_Dirty:  700 kB\n"
	if kb, err := pssOf(rollup); err != nil || kb != 1500 {
		t.Errorf("got %d, %v", kb, err)
	}
	if _, err := pssOf(""); err == nil {
		t.Error("a process without figures must be an error")
	}
}

// Bare crun must do what moss does: all of the spec stays but what names moss's own places.
func TestAdapt(t *testing.T) {
	in := `{"ociVersion":"1.2.0","process":{"args":["sleep","9"],"cwd":"/"},"root":{"path":"/a/merged"},
	 "mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/etc/hosts","type":"bind","source":"/x/hosts"}],
	 "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/n"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"cgroupsPath":"/u"}}`
	out, err := adapt([]byte(in), "/b", "true")
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	expect := `{"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"/b/rootfs"},
	 "mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/etc/hosts","type":"bind","source":"/b/hosts"}],
	 "linux":{"namespaces":[{"type":"pid"},{"type":"network"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}`
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(expect), &want); err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got) // maps marshal in order of their keys
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if _, err := adapt([]byte(`{"process":{},"linux":{}}`), "/b", "true"); err == nil {
		t.Error("a spec without seccomp is not docker's: crun would look faster than it is")
	}
}
