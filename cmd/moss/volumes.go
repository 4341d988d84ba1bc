package main

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) volumeCommands() []*cli.Command {
	list := newListFlag
	return []*cli.Command{group("volume", "commands for volumes",
		command("create", "[NAME]", "make a volume", 0, 1, []cli.Flag{
			newStringFlag("`DRIVER`: local", "driver", "d"),
			list("label `KEY[=VALUE]`", "label"),
			list("driver option `KEY=VALUE`: type, o, device", "opt", "o"),
		}, a.createVolume),
		command("export", "NAME", "write a tar of a volume's files", 1, 1, []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` in place of the output"}, prefixFlag(),
		}, a.exportVolume),
		command("import", "NAME [FILE]", "put the files of a tar into a volume", 1, 2, []cli.Flag{prefixFlag()}, a.importVolume),
		command("mount", "NAME", "tell where a volume's files are, for moss unshare", 1, 1, nil, a.mountVolume),
		command("inspect", "NAME…", "tell all about volumes", 1, -1, []cli.Flag{formatFlag()}, a.inspectVolumes),
		named(command("ls", "", "list volumes", 0, 0, []cli.Flag{
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those for which `KEY=VALUE` holds: dangling, driver, label, name"},
			&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only names"},
		}, a.listVolumes), "ls", "list"),
		command("prune", "", "remove the volumes that no container has", 0, 0, []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those with a name"},
			&cli.StringSliceFlag{Name: "filter", Usage: "only those for which `KEY=VALUE` holds: label"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"},
		}, a.pruneVolumes),
		named(command("rm", "NAME…", "remove volumes", 1, -1, []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "what is not there is no failure"},
		}, a.removeVolumes), "rm", "remove"),
	)}
}

func (a *app) createVolume(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	made, err := api.VolumeCreate(c.Context, client.VolumeCreateOptions{
		Name: c.Args().First(), Driver: c.String("driver"), Labels: toMap(c.StringSlice("label")), DriverOpts: toMap(c.StringSlice("opt")),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, made.Volume.Name)
	return nil
}

func (a *app) inspectVolumes(c *cli.Context) error {
	return a.inspectKind(c, "volume")
}

var volumeColumns = []column{
	{"Driver", "DRIVER"},
	{"Name", "VOLUME NAME"},
	{"Scope", "SCOPE"},
	{"Mountpoint", "MOUNTPOINT"},
	{"Labels", "LABELS"},
	{"Links", "LINKS"},
	{"Size", "SIZE"},
}

func (a *app) listVolumes(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	f, err := filters(c)
	if err != nil {
		return err
	}
	list, err := api.VolumeList(c.Context, client.VolumeListOptions{Filters: f})
	if err != nil {
		return err
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "{{.Name}}"
	}
	var rows []map[string]string
	for _, v := range list.Items {
		rows = append(rows, volumeRow(v))
	}
	return printRows(a.out, format, `{{.Driver}}	{{.Name}}`, volumeColumns, rows)
}

func volumeRow(v volume.Volume) map[string]string {
	row := addLabels(map[string]string{
		"Driver": v.Driver, "Name": v.Name, "Scope": v.Scope, "Mountpoint": v.Mountpoint, "Links": "N/A", "Size": "N/A",
	}, v.Labels)
	if v.UsageData != nil {
		row["Links"], row["Size"] = strconv.FormatInt(v.UsageData.RefCount, 10), units.HumanSize(float64(v.UsageData.Size))
	}
	return row
}

func (a *app) removeVolumes(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.VolumeRemove(c.Context, ref, client.VolumeRemoveOptions{Force: c.Bool("force")})
		return err
	})
}

func (a *app) pruneVolumes(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	what := "anonymous local volumes not used by at least one container."
	if c.Bool("all") {
		what = "all local volumes not used by at least one container."
	}
	if err := a.confirm(c, "This will remove "+what); err != nil {
		return err
	}
	if c.Bool("all") {
		if f == nil {
			f = make(client.Filters)
		}
		f.Add("all", "true")
	}
	freed, err := a.pruneOnlyVolumes(c, f)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}

// pruneOnlyVolumes removes volumes and tells what went.
func (a *app) pruneOnlyVolumes(c *cli.Context, f client.Filters) (freed uint64, err error) {
	api, err := a.api()
	if err != nil {
		return 0, err
	}
	got, err := api.VolumePrune(c.Context, client.VolumePruneOptions{Filters: f})
	a.removed("Volumes", got.Report.VolumesDeleted)
	return got.Report.SpaceReclaimed, err
}
