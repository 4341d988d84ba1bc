package api

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

var psNow = time.Date(2024, 5, 6, 12, 0, 0, 0, time.Local)

var psList = moss.ProcessList{At: psNow, Memory: 1 << 30, Processes: []moss.ProcessInfo{
	{
		PID: 100, PPID: 1, PGID: 100, SID: 100, User: "root", Group: "wheel", State: "S", TTY: "pts/0", Foreground: true, Threads: 2,
		Started: psNow.Add(-time.Hour), CPU: 6 * time.Minute, VSZ: 8192, RSS: 64 << 20, Comm: "sleep", Args: []string{"sleep", "1 000"},
	},
	{
		PID: 101, PPID: 100, PGID: 101, SID: 100, UID: 33, User: "33", GID: 7, Group: "7", State: "Z", TTY: "?", Nice: 5, Threads: 1,
		Started: psNow.AddDate(0, -1, 0), CPU: 26 * time.Hour, Comm: "done",
	},
}}

// sampleAt is a sample of a container that uses half a processor of two.
func sampleAt(second int64) moss.Sample {
	n := time.Duration(second) * time.Second
	return moss.Sample{
		At: time.Unix(second, 0).UTC(), CPU: n / 2, CPUUser: n / 4, CPUKern: n / 4, SystemCPU: 2 * n, CPUs: 2,
		Memory: 3 << 20, MemoryLimit: 1 << 30, MemoryStats: map[string]uint64{"inactive_file": 1 << 20}, PIDs: 4, PIDsLimit: 9,
		BlockIO:  []moss.BlockIO{{Major: 8, Op: "read", Bytes: 10}},
		Networks: map[string]moss.LinkUse{"eth0": {RxBytes: 5, TxBytes: 6}},
	}
}

func TestPS(t *testing.T) {
	started := psList.Processes[1].Started.Format("Jan02")
	for args, want := range map[string]string{
		"-ef":                              "UID PID PPID C STIME TTY TIME CMD|root 100 1 10 11:00 pts/0 00:06:00 sleep 1 000|33 101 100 3 " + started + " ? 1-02:00:00 [done] <defunct>",
		"ef":                               "UID PID PPID C STIME TTY TIME CMD|",
		"-e -f -ww":                        "UID PID PPID C STIME TTY TIME CMD|",
		"aux":                              "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND|root 100 10.0 6.2 8 65536 pts/0 Ssl+ 11:00 6:00 sleep 1 000|33 101 3.6 0.0 0 0 ? ZN " + started + " 1560:00 [done] <defunct>",
		"-aux":                             "USER PID %CPU",
		"-A":                               "PID TTY TIME CMD|100 pts/0 00:06:00 sleep|101 ? 1-02:00:00 done <defunct>|",
		"-eo pid,etime,comm":               "PID ELAPSED COMMAND|100 01:00:00 sleep|101 30-00:00:00 done <defunct>|",
		"-o pid -o rss":                    "PID RSS|100 65536|101 0|",
		"-opid,ppid":                       "PID PPID|100 1|101 100|",
		"axo PID,group,ni":                 "PID GROUP NI|100 wheel 0|101 7 5|",
		"--format=pid,S,etimes,nlwp,tname": "PID S ELAPSED NLWP TTY|100 S 3600 2 pts/0|",
		// refused
		"-o comm":     "error: Couldn't find PID field",
		"-o pid,tree": "error: cannot list processes with \"tree\": known columns are %cpu %mem args",
		"-o pid=X":    "error: cannot list processes with \"pid=X\"",
		"-o":          "error: cannot list processes with \"-o\": a list of columns is missing",
		"--forest":    "error: cannot list processes with \"--forest\": moss does not run ps",
		"-p 1":        "error: cannot list processes with \"-p\"",
		"-":           "error: cannot list processes with \"-\"",
		"-eH":         "error: cannot list processes with \"-eH\"",
	} {
		columns, err := psColumns(args)
		got := ""
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%s: %v is not Invalid", args, err)
			}
			got = "error: " + err.Error()
		} else {
			var titles []string
			for _, c := range columns {
				titles = append(titles, c.title)
			}
			got = strings.Join(titles, " ") + "|"
			for i := range psList.Processes {
				for j, c := range columns {
					if j > 0 {
						got += " "
					}
					got += c.cell(&psList, &psList.Processes[i])
				}
				got += "|"
			}
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n%s, want\n%s", args, got, want)
		}
	}
}

func FuzzPS(f *testing.F) {
	for _, s := range []string{"-ef", "aux", "-o pid,comm", "--format=pid", "-eo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		columns, err := psColumns(args)
		if err == nil && len(columns) == 0 {
			t.Error("no columns, no error")
		}
		for _, c := range columns {
			c.cell(&psList, &psList.Processes[0])
		}
	})
}

func TestStatsStream(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	made, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "used", Config: &container.Config{Image: "busybox", OpenStdin: true}})
	if err != nil {
		t.Fatal(err)
	}
	read := func(o client.ContainerStatsOptions, n int) (out []container.StatsResponse) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got, err := c.ContainerStats(ctx, "used", o)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		for d := json.NewDecoder(got.Body); len(out) < n; {
			var s container.StatsResponse
			if err := d.Decode(&s); err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return out
	}
	s := read(client.ContainerStatsOptions{}, 1)[0]
	if s.ID != made.ID || s.Name != "/used" || !s.Read.IsZero() || s.OSType != "linux" {
		t.Errorf("of one that does not run: %+v", s)
	}
	attached, err := c.ContainerAttach(t.Context(), "used", client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	if _, err := c.ContainerStart(t.Context(), "used", client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	s = read(client.ContainerStatsOptions{IncludePreviousSample: true}, 1)[0]
	if s.CPUStats.CPUUsage.TotalUsage != 1e9 || s.PreCPUStats.CPUUsage.TotalUsage != 5e8 || s.CPUStats.SystemUsage != 4e9 || s.CPUStats.OnlineCPUs != 2 ||
		s.MemoryStats.Usage != 3<<20 || s.MemoryStats.Stats["inactive_file"] != 1<<20 || s.PidsStats.Current != 4 || s.PidsStats.Limit != 9 ||
		s.Networks["eth0"].TxBytes != 6 || s.BlkioStats.IoServiceBytesRecursive[0].Value != 10 {
		t.Errorf("%+v", s)
	}
	two := read(client.ContainerStatsOptions{Stream: true}, 2)
	if !two[0].PreRead.IsZero() || !two[1].PreRead.Equal(two[0].Read) || two[1].PreCPUStats.CPUUsage.TotalUsage != two[0].CPUStats.CPUUsage.TotalUsage {
		t.Errorf("%+v", two)
	}
}
