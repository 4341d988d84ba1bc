package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

func listed(t testing.TB, all []*moss.Container, v version, now time.Time) string {
	t.Helper()
	out := []container.Summary{}
	for _, c := range all {
		out = append(out, encodeSummary(c, v, now))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A kept row is what would be made anew, in every version and at any time.
func TestRows(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	all := []*moss.Container{
		{ID: "a", Name: "web", State: moss.StateRunning, Path: "<&>", Config: moss.ContainerConfig{Labels: map[string]string{"k": `"Status":""`}}, Host: moss.HostConfig{Annotations: map[string]string{"a": "b"}}, Run: moss.Run{StartedAt: now.Add(-time.Minute), Health: &moss.Health{Status: moss.HealthHealthy, FailingStreak: 3}}},
		{ID: "b", Name: "sly", State: moss.StateExited, Config: moss.ContainerConfig{Labels: map[string]string{"Status": statusMark}}, Run: moss.Run{StartedAt: now, FinishedAt: now, ExitCode: 3}},
		{ID: "c", Name: "db", State: moss.StateCreated, LinkedAs: []string{"web/db"}},
	}
	var rs rows
	for minor := 24; minor <= newest.minor; minor++ {
		for _, at := range []time.Time{now, now, now.Add(time.Hour), now.Add(time.Hour)} {
			got, err := rs.list(all, nil, v1(minor), at)
			if err != nil {
				t.Fatal(err)
			}
			if want := listed(t, all, v1(minor), at); string(got) != want {
				t.Fatalf("in version 1.%d after %s:\n%s\nwant\n%s", minor, at.Sub(now), got, want)
			}
		}
	}
	if n := len(rs.kept); n != 3 { // a's, in three forms
		t.Errorf("%d rows are kept", n)
	}
	renamed := *all[0]
	renamed.Name = "other"
	all[0] = &renamed
	got, err := rs.list(all, nil, newest, now)
	if err != nil || string(got) != listed(t, all, newest, now) {
		t.Errorf("after a change %s, %v", got, err)
	}
	got, err = rs.list(all[:1], map[moss.ContainerID]moss.ContainerUsage{"a": {Written: 5, Total: 7}}, newest, now)
	if err != nil || !bytes.Contains(got, []byte(`"SizeRw":5,"SizeRootFs":7`)) {
		t.Errorf("sizes: %s, %v", got, err)
	}
	if got, err := rs.list(nil, nil, newest, now); err != nil || string(got) != "[]\n" {
		t.Errorf("nothing is %q, %v", got, err)
	}
	// Rows go with their records.
	all, renamed = nil, moss.Container{}
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		runtime.GC()
		rs.mu.Lock()
		n := len(rs.kept)
		rs.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d rows outlive their records", n)
		}
	}
}

func BenchmarkRows(b *testing.B) {
	var all []*moss.Container
	for i := range 1000 {
		all = append(all, &moss.Container{ID: moss.ContainerID(fmt.Sprintf("%064d", i)), Name: fmt.Sprint("c", i), State: moss.StateExited, Image: "sha256:0", ImageRef: "busybox"})
	}
	var rs rows
	for b.Loop() {
		if _, err := rs.list(all, nil, newest, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
