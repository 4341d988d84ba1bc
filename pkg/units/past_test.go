package units_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units"
)

// journalctl is Options.Journal by systemd's own reader.
func journalctl(name, value string, since time.Time, each func(time.Time, map[string]string)) error {
	out, err := exec.Command("journalctl", "--user", "--quiet", "--output=json", name+"="+value).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 && len(exit.Stderr) == 0 {
		err = nil // no such entries
	}
	if err != nil {
		return err
	}
	for line := range bytes.Lines(out) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			return err
		}
		texts := map[string]string{}
		for k, v := range fields {
			texts[k], _ = v.(string)
		}
		µs, err := strconv.ParseInt(texts["__REALTIME_TIMESTAMP"], 10, 64)
		if err != nil {
			return err
		}
		if at := time.UnixMicro(µs); !at.Before(since) {
			each(at, texts)
		}
	}
	return nil
}

// What the real manager writes of a stop. Of a kill for want of memory the rig can have none.
func TestUnitHistory(t *testing.T) {
	needManager(t)
	holder(t)
	porttest.UnitHistory(t, func(t *testing.T) porttest.UnitsRig {
		m := open(t, false)
		units.ReadJournalBy(m, journalctl)
		return realRig{m: m, dir: t.TempDir()}
	})
}

func TestPast(t *testing.T) {
	id := moss.ContainerID(moss.NewHexID())
	start := time.Unix(1_700_000_000, 0)
	var asked string
	journal := func(fields ...map[string]string) func(string, string, time.Time, func(time.Time, map[string]string)) error {
		return func(name, value string, since time.Time, each func(time.Time, map[string]string)) error {
			asked = name + "=" + value
			for i, f := range fields {
				each(since.Add(time.Duration(i)*time.Second), f)
			}
			return nil
		}
	}
	oom := map[string]string{"MESSAGE_ID": "fe6faa94e7774663a0da52717891d8ef"}
	job := func(kind, result string) map[string]string {
		return map[string]string{"MESSAGE_ID": "9d1aaa27d60140bd96365438aad20286", "JOB_TYPE": kind, "JOB_RESULT": result}
	}
	for name, c := range map[string]struct {
		entries []map[string]string
		want    moss.UnitPast
	}{
		"nothing":               {nil, moss.UnitPast{}},
		"other words":           {[]map[string]string{{"MESSAGE_ID": "39f53479d3a045ac8e11786248231fbf", "JOB_TYPE": "stop", "JOB_RESULT": "done"}, {"MESSAGE": "x"}}, moss.UnitPast{}},
		"killed":                {[]map[string]string{oom}, moss.UnitPast{OOMKills: 1, OOMAt: start}},
		"killed twice, stopped": {[]map[string]string{oom, oom, job("stop", "done")}, moss.UnitPast{OOMKills: 2, OOMAt: start.Add(time.Second), StoppedAt: start.Add(2 * time.Second)}},
		"not done":              {[]map[string]string{job("stop", "canceled"), job("restart", "done")}, moss.UnitPast{}},
	} {
		m := units.PastOnly("moss", journal(c.entries...))
		if got, err := m.Past(t.Context(), id, start); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
		if want := "USER_UNIT=moss-" + id.Short() + ".service"; asked != want {
			t.Errorf("%s: asked for %s, want %s", name, asked, want)
		}
	}
	none := units.PastOnly("moss", func(string, string, time.Time, func(time.Time, map[string]string)) error { return errors.New("no") })
	if _, err := none.Past(t.Context(), id, start); moss.ClassOf(err) != moss.Unavailable {
		t.Errorf("a journal that may not be read: %v, want Unavailable", err)
	}
}
