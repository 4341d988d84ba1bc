package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

var psColumns = []column{
	{"ID", "CONTAINER ID"},
	{"Image", "IMAGE"},
	{"Command", "COMMAND"},
	{"CreatedAt", "CREATED AT"},
	{"RunningFor", "CREATED"},
	{"Ports", "PORTS"},
	{"State", "STATE"},
	{"Status", "STATUS"},
	{"Names", "NAMES"},
	{"Labels", "LABELS"},
	{"Mounts", "MOUNTS"},
	{"LocalVolumes", "LOCAL VOLUMES"},
	{"Networks", "NETWORKS"},
	{"Unit", "UNIT"},
	{"Size", "SIZE"},
}

const psTable = `{{.ID}}	{{.Image}}	{{.Command}}	{{.RunningFor}}	{{.Status}}	{{.Ports}}	{{.Names}}`

func (a *app) ps(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	filters, err := filters(c)
	if err != nil {
		return err
	}
	format, plain := c.String("format"), psTable
	sized := c.Bool("size") || strings.Contains(format, ".Size") || strings.Contains(format, "{{json .}}")
	if c.Bool("size") {
		plain += `	{{.Size}}`
	}
	defer collectLess()()
	limit := c.Int("last")
	if c.Bool("latest") {
		limit = 1
	}
	list, err := api.ContainerList(c.Context, client.ContainerListOptions{All: c.Bool("all"), Limit: max(limit, 0), Filters: filters, Size: sized})
	if err != nil {
		return err
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	table := c.Bool("quiet") || format == "" || format == "table"
	rows, now := make([]map[string]string, len(list.Items)), time.Now()
	for i, s := range list.Items {
		if table { // to make what nobody sees takes longer, of a thousand containers
			rows[i] = psShown(s, !c.Bool("no-trunc"), now)
			continue
		}
		rows[i] = psRow(s, !c.Bool("no-trunc"), now)
		rows[i]["Unit"] = a.prefix() + "-" + s.ID[:min(12, len(s.ID))] + ".service"
	}
	return printRows(a.out, format, plain, psColumns, rows)
}

// psShown has what the table shows.
func psShown(s container.Summary, cut bool, now time.Time) map[string]string {
	id, command, image := s.ID, s.Command, s.Image
	if cut {
		id = id[:min(12, len(id))]
		command = ellipsis(command, 20)
		if len(image) > 12 && image == s.ImageID {
			image = strings.TrimPrefix(image, "sha256:")[:12]
		}
	}
	var names []string
	for _, n := range s.Names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") || !cut { // links are seen in full only
			names = append(names, n)
		}
	}
	return map[string]string{
		"ID": id, "Image": image, "Command": strconv.Quote(command), "RunningFor": units.HumanDuration(now.Sub(time.Unix(s.Created, 0))) + " ago",
		"Ports": portList(s.Ports), "Status": s.Status, "Names": strings.Join(names, ","), "Size": diskSize(s),
	}
}

// psRow has all that a template may ask for.
func psRow(s container.Summary, cut bool, now time.Time) map[string]string {
	row := psShown(s, cut, now)
	var networks, mounts []string
	local := 0
	if s.NetworkSettings != nil {
		for n := range s.NetworkSettings.Networks {
			networks = append(networks, n)
		}
	}
	for _, m := range s.Mounts {
		name := cmp.Or(m.Name, m.Source)
		if cut {
			name = ellipsis(name, 15)
		}
		mounts = append(mounts, name)
		if m.Driver == "local" {
			local++
		}
	}
	slices.Sort(networks)
	row["CreatedAt"], row["State"] = time.Unix(s.Created, 0).String(), string(s.State)
	row["Mounts"], row["Networks"], row["LocalVolumes"] = strings.Join(mounts, ","), strings.Join(networks, ","), strconv.Itoa(local)
	return addLabels(row, s.Labels)
}

// size is what a container takes on the disk, with its image where that was asked for.
func diskSize(s container.Summary) string {
	if s.SizeRw == 0 && s.SizeRootFs == 0 { // not asked for
		return "0B"
	}
	own := units.HumanSizeWithPrecision(float64(s.SizeRw), 3)
	if s.SizeRootFs == 0 {
		return own
	}
	return own + " (virtual " + units.HumanSizeWithPrecision(float64(s.SizeRootFs), 3) + ")"
}

// portList is docker's: 0.0.0.0:8080->80/tcp, 90/tcp.
func portList(ports []container.PortSummary) string {
	slices.SortFunc(ports, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type), cmp.Compare(a.PublicPort, b.PublicPort), a.IP.Compare(b.IP))
	})
	var out []string
	for _, p := range ports {
		text := fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)
		if p.PublicPort != 0 {
			host := "0.0.0.0"
			if p.IP.IsValid() {
				host = p.IP.String()
				if p.IP.Is6() {
					host = "[" + host + "]"
				}
			}
			text = fmt.Sprintf("%s:%d->%s", host, p.PublicPort, text)
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// collectLess lets the heap of a list of thousands grow: the process ends with it.
func collectLess() (again func()) {
	const percent = 400
	old := debug.SetGCPercent(percent)
	return func() { debug.SetGCPercent(old) }
}

// filters reads --filter KEY=VALUE.
func filters(c *cli.Context) (client.Filters, error) {
	f := make(client.Filters)
	for _, kv := range c.StringSlice("filter") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, &status{125, fmt.Sprintf("cannot use --filter %q: it is not KEY=VALUE", kv)}
		}
		f.Add(strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(v))
	}
	return f, nil
}
