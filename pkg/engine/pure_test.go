package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestBackoffDoublesToAMinute(t *testing.T) {
	last := time.Duration(0)
	for n := range 40 {
		d := backoff(n)
		if d < last || d > backoffMax || (n > 0 && d != backoffMax && d != 2*last) {
			t.Fatalf("backoff(%d) = %s after %s", n, d, last)
		}
		last = d
	}
	if backoff(0) != 100*time.Millisecond || last != time.Minute {
		t.Fatalf("from %s to %s", backoff(0), last)
	}
}

func TestShouldRestart(t *testing.T) {
	for _, c := range []struct {
		mode           moss.RestartMode
		max            int
		code, restarts int
		calledOff      bool
		want           bool
	}{
		{moss.RestartNo, 0, 1, 0, false, false},
		{moss.RestartAlways, 0, 0, 99, false, true},
		{moss.RestartAlways, 0, 1, 0, true, false},
		{moss.RestartUnlessStopped, 0, 0, 3, false, true},
		{moss.RestartUnlessStopped, 0, 137, 0, true, false},
		{moss.RestartOnFailure, 0, 0, 0, false, false},
		{moss.RestartOnFailure, 0, 3, 1000, false, true},
		{moss.RestartOnFailure, 2, 3, 1, false, true},
		{moss.RestartOnFailure, 2, 3, 2, false, false},
	} {
		if got := shouldRestart(moss.RestartPolicy{Mode: c.mode, MaxRetries: c.max}, c.code, c.restarts, c.calledOff); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestShouldRevive(t *testing.T) {
	rec := func(stopped bool, code int) *moss.Container {
		return &moss.Container{Stopped: stopped, Run: moss.Run{ExitCode: code}}
	}
	for _, c := range []struct {
		mode moss.RestartMode
		rec  *moss.Container
		want bool
	}{
		{moss.RestartNo, rec(false, 1), false},
		{moss.RestartAlways, rec(true, 0), true},
		{moss.RestartUnlessStopped, rec(true, 0), false},
		{moss.RestartUnlessStopped, rec(false, 0), true},
		{moss.RestartOnFailure, rec(false, 0), false},
		{moss.RestartOnFailure, rec(false, 7), true},
		{moss.RestartOnFailure, rec(true, 7), false},
	} {
		if got := shouldRevive(moss.RestartPolicy{Mode: c.mode}, c.rec); got != c.want {
			t.Errorf("%s %+v: %v", c.mode, c.rec, got)
		}
	}
}

// DESIGN.md's table of restore, row by row.
func TestJudge(t *testing.T) {
	net := &moss.Attachment{}
	rec := func(s moss.State, i moss.Intent, pid int, n *moss.Attachment) *moss.Container {
		return &moss.Container{State: s, Intent: i, Run: moss.Run{PID: pid}, Network: n}
	}
	unit := func(p moss.UnitPhase, pid int) moss.UnitStatus { return moss.UnitStatus{Phase: p, PID: pid} }
	for name, c := range map[string]struct {
		rec  *moss.Container
		unit moss.UnitStatus
		want verdict
	}{
		"running, active":                        {rec(moss.StateRunning, "", 7, net), unit(moss.UnitRunning, 7), reattach},
		"running, another process":               {rec(moss.StateRunning, "", 7, net), unit(moss.UnitRunning, 8), lost},
		"running, ended":                         {rec(moss.StateRunning, "", 7, net), unit(moss.UnitEnded, 0), finish},
		"running, stopping but alive":            {rec(moss.StateRunning, "", 7, net), unit(moss.UnitStopping, 7), reattach},
		"running, gone":                          {rec(moss.StateRunning, "", 7, net), unit(moss.UnitGone, 0), lost},
		"running, stop interrupted":              {rec(moss.StateRunning, moss.IntentStop, 7, net), unit(moss.UnitRunning, 7), reattach},
		"paused, active":                         {rec(moss.StatePaused, "", 7, net), unit(moss.UnitRunning, 7), reattach},
		"created, nothing":                       {rec(moss.StateCreated, "", 0, nil), unit(moss.UnitGone, 0), leave},
		"created, start prepared":                {rec(moss.StateCreated, moss.IntentStart, 7, net), unit(moss.UnitRunning, 7), goOn},
		"created, start prepared, ended":         {rec(moss.StateCreated, moss.IntentStart, 7, net), unit(moss.UnitEnded, 7), goOn},
		"created, start prepared, another ended": {rec(moss.StateCreated, moss.IntentStart, 7, net), unit(moss.UnitEnded, 8), startOver},
		"created, start begun":                   {rec(moss.StateCreated, moss.IntentStart, 0, nil), unit(moss.UnitStarting, 0), startOver},
		"created, start begun, no unit":          {rec(moss.StateCreated, moss.IntentStart, 0, nil), unit(moss.UnitGone, 0), startOver},
		"created, unit without intent":           {rec(moss.StateCreated, "", 0, nil), unit(moss.UnitRunning, 9), clear},
		"exited, nothing":                        {rec(moss.StateExited, "", 0, nil), unit(moss.UnitGone, 0), leave},
		"exited, unit not collected":             {rec(moss.StateExited, "", 0, nil), unit(moss.UnitEnded, 0), clear},
		"exited, start prepared, unit gone":      {rec(moss.StateExited, moss.IntentStart, 7, net), unit(moss.UnitGone, 0), startOver},
		"restarting":                             {rec(moss.StateRestarting, "", 0, nil), unit(moss.UnitGone, 0), giveUpOn},
		"removing":                               {rec(moss.StateRemoving, moss.IntentRemove, 0, nil), unit(moss.UnitGone, 0), removeOn},
		"dead, nothing":                          {rec(moss.StateDead, moss.IntentRemove, 0, nil), unit(moss.UnitGone, 0), leave},
		"dead, unit":                             {rec(moss.StateDead, moss.IntentRemove, 0, nil), unit(moss.UnitEnded, 0), clear},
	} {
		if got := judge(c.rec, c.unit); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	image := moss.ContainerConfig{
		Env: []string{"PATH=/bin", "A=image"}, Cmd: []string{"sh"}, Entrypoint: []string{"/entry"}, WorkingDir: "/w", User: "u",
		Labels: map[string]string{"a": "image", "b": "image"}, ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}}, StopSignal: "SIGQUIT",
	}
	for name, c := range map[string]struct {
		user            moss.ContainerConfig
		entrypointSet   bool
		entrypoint, cmd []string
	}{
		"nothing given":            {moss.ContainerConfig{}, false, []string{"/entry"}, []string{"sh"}},
		"command given":            {moss.ContainerConfig{Cmd: []string{"ls"}}, false, []string{"/entry"}, []string{"ls"}},
		"entry point given":        {moss.ContainerConfig{Entrypoint: []string{"e"}}, true, []string{"e"}, nil},
		"entry point taken away":   {moss.ContainerConfig{Entrypoint: []string{""}, Cmd: []string{"ls"}}, true, nil, []string{"ls"}},
		"entry point empty at API": {moss.ContainerConfig{Entrypoint: []string{}}, true, []string{}, []string{"sh"}},
	} {
		got := merge(c.user, image, c.entrypointSet)
		if !slices.Equal(got.Entrypoint, c.entrypoint) || !slices.Equal(got.Cmd, c.cmd) {
			t.Errorf("%s: %q %q", name, got.Entrypoint, got.Cmd)
		}
	}
	got := merge(moss.ContainerConfig{
		Env: []string{"A=user", "B=1", "NOVALUE"}, Labels: map[string]string{"a": "user"}, User: "v",
		ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}, {Number: 53, Proto: moss.UDP}},
	}, image, false)
	if d := cmp.Diff([]string{"A=user", "B=1", "NOVALUE", "PATH=/bin"}, got.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"a": "user", "b": "image"}, got.Labels); d != "" {
		t.Error(d)
	}
	if got.User != "v" || got.WorkingDir != "/w" || got.StopSignal != "SIGQUIT" || len(got.ExposedPorts) != 2 {
		t.Errorf("%+v", got)
	}
	if image.Labels["a"] != "image" {
		t.Error("merging changed the image")
	}
}

func TestPortFilter(t *testing.T) {
	have := []moss.Port{{Number: 80, Proto: moss.TCP}, {Number: 53, Proto: moss.UDP}}
	for want, ok := range map[string]bool{"80": true, "80/tcp": true, "80/udp": false, "70-90": true, "81-90": false, "53/udp": true, "x": false, "": false, "80-": false} {
		if hasPort(have, want) != ok {
			t.Errorf("%q: %v", want, !ok)
		}
	}
}

func TestFailureCode(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "nope": executable file not found in $PATH`: 127,
		`stat /nope: no such file or directory`:            127,
		`mkdir /etc/passwd: not a directory`:               127,
		`exec /etc/passwd: permission denied`:              126,
		`address already in use`:                           128,
	} {
		if got := failureCode(moss.Errorf(moss.Invalid, "%s", text)); got != code {
			t.Errorf("%s: %d", text, got)
		}
	}
}
