package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

var dfColumns = []column{
	{"Type", "TYPE"},
	{"TotalCount", "TOTAL"},
	{"Active", "ACTIVE"},
	{"Size", "SIZE"},
	{"Reclaimable", "RECLAIMABLE"},
}

func (a *app) df(c *cli.Context) error {
	verbose, format := c.Bool("verbose"), c.String("format")
	if verbose && format != "" && format != "json" {
		return &status{1, "the flags --verbose and --format exclude each other, but for --format json"}
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	du, err := api.DiskUsage(c.Context, client.DiskUsageOptions{Containers: true, Images: true, BuildCache: true, Volumes: true, Verbose: verbose})
	if err != nil {
		return err
	}
	if !verbose {
		return printRows(a.out, format, `{{.Type}}	{{.TotalCount}}	{{.Active}}	{{.Size}}	{{.Reclaimable}}`, dfColumns, dfRows(du))
	}
	details := dfDetails(du, time.Now())
	if format == "json" {
		all := make(map[string]any)
		for _, d := range details {
			all[d.key] = d.rows
		}
		return printOne(a.out, "json", all)
	}
	return printDetails(a.out, details)
}

func dfRows(du client.DiskUsageResult) []map[string]string {
	row := func(kind string, total, active, size, reclaimable int64) map[string]string {
		back := units.HumanSize(float64(reclaimable))
		if size > 0 {
			back = fmt.Sprintf("%s (%d%%)", back, reclaimable*100/size)
		}
		return map[string]string{
			"Type": kind, "TotalCount": strconv.FormatInt(total, 10), "Active": strconv.FormatInt(active, 10),
			"Size": units.HumanSize(float64(size)), "Reclaimable": back,
		}
	}
	i, n, v, b := du.Images, du.Containers, du.Volumes, du.BuildCache
	cache := row("Build Cache", b.TotalCount, b.ActiveCount, b.TotalSize, b.Reclaimable)
	cache["Reclaimable"] = units.HumanSize(float64(b.Reclaimable))
	return []map[string]string{
		row("Images", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable),
		row("Containers", n.TotalCount, n.ActiveCount, n.TotalSize, n.Reclaimable),
		row("Local Volumes", v.TotalCount, v.ActiveCount, v.TotalSize, v.Reclaimable),
		cache,
	}
}

// detail is one table of df -v.
type detail struct {
	title, key string
	plain      string
	columns    []column
	rows       []map[string]string
}

func dfDetails(du client.DiskUsageResult, now time.Time) []detail {
	containers := make([]map[string]string, len(du.Containers.Items))
	for i, s := range du.Containers.Items {
		containers[i] = psRow(s, true, now)
		containers[i]["Size"] = units.HumanSizeWithPrecision(float64(s.SizeRw), 3)
	}
	var volumes []map[string]string
	for _, v := range du.Volumes.Items {
		row := map[string]string{"Name": v.Name, "Links": "N/A", "Size": "N/A"}
		if v.UsageData != nil {
			row["Links"], row["Size"] = strconv.FormatInt(v.UsageData.RefCount, 10), units.HumanSize(float64(v.UsageData.Size))
		}
		volumes = append(volumes, row)
	}
	return []detail{
		{
			"Images space usage:", "Images",
			`{{.Repository}}	{{.Tag}}	{{.ID}}	{{.CreatedSince}}	{{.VirtualSize}}	{{.SharedSize}}	{{.UniqueSize}}	{{.Containers}}`,
			imageColumns, imageRows(du.Images.Items, false, true, now),
		},
		{
			"Containers space usage:", "Containers",
			`{{.ID}}	{{.Image}}	{{.Command}}	{{.LocalVolumes}}	{{.Size}}	{{.RunningFor}}	{{.Status}}	{{.Names}}`,
			append([]column{{"LocalVolumes", "LOCAL VOLUMES"}, {"Size", "SIZE"}}, psColumns...), containers,
		},
		{
			"Local Volumes space usage:", "Volumes", `{{.Name}}	{{.Links}}	{{.Size}}`,
			[]column{{"Name", "VOLUME NAME"}, {"Links", "LINKS"}, {"Size", "SIZE"}},
			volumes,
		},
	}
}

func printDetails(w io.Writer, details []detail) error {
	for i, d := range details {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, d.title+"\n")
		if err := printRows(w, "", d.plain, d.columns, d.rows); err != nil {
			return err
		}
	}
	return nil
}
