package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
)

func TestLimitsByFlags(t *testing.T) {
	for want, asked := range map[string]map[string]string{
		`{"memory":{},"cpu":{}}`: {},
		`{"memory":{"limit":536870912,"reservation":1024,"swap":-1},"cpu":{}}`: {
			"memory": "512m", "memory-reservation": "1024", "memory-swap": "-1",
		},
		`{"memory":{},"cpu":{"shares":512,"quota":-1,"burst":5,"period":100000,"cpus":"0-1","mems":"0","idle":0}}`: {
			"cpu-share": "512", "cpu-quota": "-1", "cpu-burst": "5", "cpu-period": "100000",
			"cpuset-cpus": "0-1", "cpuset-mems": "0", "cpu-idle": "0",
		},
		`{"memory":{},"cpu":{},"pids":{"limit":-1},"blockIO":{"weight":500}}`: {"pids-limit": "-1", "blkio-weight": "500"},
	} {
		r, err := limitsByFlags(asked)
		if err != nil {
			t.Errorf("%v: %v", asked, err)
			continue
		}
		if got, err := json.Marshal(r); err != nil || string(got) != want {
			t.Errorf("%v: %s, want %s (%v)", asked, got, want, err)
		}
	}
	for flag, values := range map[string]string{
		"memory": "x -2 1q", "memory-swap": "-5m", "cpu-share": "-1 x 1.5 1x null", "cpu-quota": "1s x 0x10",
		"cpu-period": "-1", "cpu-idle": "yes", "pids-limit": "many 1.5", "blkio-weight": "5 1001 70000 -1",
	} {
		for v := range strings.FieldsSeq(values) {
			if _, err := limitsByFlags(map[string]string{flag: v}); err == nil || !strings.Contains(err.Error(), "--"+flag+" ") {
				t.Errorf("--%s %s: %v", flag, v, err)
			}
		}
	}
}

func TestKeepOther(t *testing.T) {
	type limits struct {
		quota  int64
		period uint64
	}
	for _, c := range []struct {
		asked limits
		now   string
		want  limits
	}{
		{limits{5000, 0}, "max 50000\n", limits{5000, 50000}},
		{limits{0, 20000}, "5000 50000\n", limits{5000, 20000}},
		{limits{0, 20000}, "max 50000\n", limits{0, 20000}},
		{limits{-1, 0}, "5000 50000\n", limits{-1, 50000}},
		{limits{1, 2}, "5000 50000\n", limits{1, 2}},
		{limits{0, 0}, "5000 50000\n", limits{0, 0}},
		{limits{7, 0}, "", limits{7, 0}},
	} {
		r := &cgroups.Resources{CpuQuota: c.asked.quota, CpuPeriod: c.asked.period}
		keepOther(r, c.now)
		if got := (limits{r.CpuQuota, r.CpuPeriod}); got != c.want {
			t.Errorf("%v over %q: %v, want %v", c.asked, c.now, got, c.want)
		}
	}
}
