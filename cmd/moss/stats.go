package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) top(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ContainerTop(c.Context, c.Args().First(), client.ContainerTopOptions{Arguments: c.Args().Tail()})
	if err != nil {
		return err
	}
	tab := tabwriter.NewWriter(a.out, 20, 1, 3, ' ', 0)
	fmt.Fprintln(tab, strings.Join(got.Titles, "\t"))
	for _, p := range got.Processes {
		fmt.Fprintln(tab, strings.Join(p, "\t"))
	}
	return tab.Flush()
}

var statsColumns = []column{
	{"Container", "CONTAINER"},
	{"ID", "CONTAINER ID"},
	{"Name", "NAME"},
	{"CPUPerc", "CPU %"},
	{"MemUsage", "MEM USAGE / LIMIT"},
	{"MemPerc", "MEM %"},
	{"NetIO", "NET I/O"},
	{"BlockIO", "BLOCK I/O"},
	{"PIDs", "PIDS"},
}

const (
	statsTable  = `{{.ID}}	{{.Name}}	{{.CPUPerc}}	{{.MemUsage}}	{{.MemPerc}}	{{.NetIO}}	{{.BlockIO}}	{{.PIDs}}`
	statsEvery  = time.Second
	clearScreen = "\x1b[2J\x1b[H"
)

// stats asks every container once a second, so those that come and go meanwhile
// are there and gone in the next table. One that was named keeps its line.
func (a *app) stats(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	before := make(map[string]container.StatsResponse)
	once := c.Bool("no-stream")
	for first := true; ; first = false {
		refs, err := statsRefs(c, api)
		if err != nil {
			return err
		}
		got, err := statsOf(c.Context, api, refs, once, !c.Args().Present() || !first)
		if err != nil {
			return err
		}
		var rows []map[string]string
		for i, s := range got {
			if s.ID == "" {
				if !c.Args().Present() {
					continue // it is gone
				}
				s.Name = refs[i]
			} else if !once {
				s.PreCPUStats = before[s.ID].CPUStats
				before[s.ID] = s
			}
			rows = append(rows, statsRow(refs[i], s, !c.Bool("no-trunc")))
		}
		if !once {
			fmt.Fprint(a.out, clearScreen)
		}
		if err := printRows(a.out, c.String("format"), statsTable, statsColumns, rows); err != nil || once {
			return err
		}
		select {
		case <-time.After(statsEvery):
		case <-c.Context.Done():
			return c.Context.Err()
		}
	}
}

func statsRefs(c *cli.Context, api *client.Client) ([]string, error) {
	if c.Args().Present() {
		return c.Args().Slice(), nil
	}
	list, err := api.ContainerList(c.Context, client.ContainerListOptions{All: c.Bool("all")})
	var refs []string
	for _, s := range list.Items {
		refs = append(refs, s.ID)
	}
	return refs, err
}

// statsOf asks all at once; a container that may have gone, and has, has no ID in its answer.
func statsOf(ctx context.Context, api *client.Client, refs []string, pair, mayGo bool) ([]container.StatsResponse, error) {
	var (
		wg   sync.WaitGroup
		out  = make([]container.StatsResponse, len(refs))
		errs = make([]error, len(refs))
	)
	for i, ref := range refs {
		wg.Go(func() { out[i], errs[i] = statsOne(ctx, api, ref, pair) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && (!mayGo || !errdefs.IsNotFound(err)) {
			return nil, err
		}
	}
	return out, nil
}

func statsOne(ctx context.Context, api *client.Client, ref string, pair bool) (s container.StatsResponse, err error) {
	got, err := api.ContainerStats(ctx, ref, client.ContainerStatsOptions{IncludePreviousSample: pair})
	if err != nil {
		return s, err
	}
	defer got.Body.Close()
	err = json.NewDecoder(got.Body).Decode(&s)
	if err == io.EOF { //nolint:errorlint // the decoder returns io.EOF itself; the container went
		err = nil
	}
	return s, err
}

func statsRow(ref string, s container.StatsResponse, cut bool) map[string]string {
	id := s.ID
	if cut {
		id = id[:min(12, len(id))]
	}
	if ref == s.ID { // nobody named it
		ref = id
	}
	row := map[string]string{"Container": ref, "ID": id, "Name": strings.TrimPrefix(s.Name, "/")}
	if s.ID == "" { // it is gone
		maps.Copy(row, map[string]string{"CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--", "NetIO": "--", "BlockIO": "--", "PIDs": "--"})
		return row
	}
	var rx, tx, read, write uint64
	for _, n := range s.Networks {
		rx, tx = rx+n.RxBytes, tx+n.TxBytes
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) {
		case "read":
			read += b.Value
		case "write":
			write += b.Value
		}
	}
	used := s.MemoryStats.Usage // less what the kernel would give up at once
	if idle := s.MemoryStats.Stats["inactive_file"]; idle < used {
		used -= idle
	}
	sizes := func(a, b uint64) string {
		return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
	}
	row["CPUPerc"] = fmt.Sprintf("%.2f%%", cpuPercent(s.PreCPUStats, s.CPUStats))
	row["MemUsage"] = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(s.MemoryStats.Limit))
	row["MemPerc"] = fmt.Sprintf("%.2f%%", 100*float64(used)/float64(max(s.MemoryStats.Limit, 1)))
	row["NetIO"], row["BlockIO"] = sizes(rx, tx), sizes(read, write)
	row["PIDs"] = strconv.FormatUint(s.PidsStats.Current, 10)
	return row
}

// cpuPercent is of one processor.
func cpuPercent(before, now container.CPUStats) float64 {
	used := float64(now.CPUUsage.TotalUsage) - float64(before.CPUUsage.TotalUsage)
	all := float64(now.SystemUsage) - float64(before.SystemUsage)
	if used <= 0 || all <= 0 || before.SystemUsage == 0 {
		return 0
	}
	return used / all * float64(now.OnlineCPUs) * 100
}
