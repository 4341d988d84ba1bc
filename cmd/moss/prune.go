package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func pruneFlags(all string, more ...cli.Flag) []cli.Flag {
	flags := append([]cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: all}}, pruneFilterFlags()...)
	return append(flags, more...)
}

func pruneFilterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "filter", Usage: "only those for which `KEY=VALUE` holds: until, label"},
		&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"},
	}
}

func (a *app) pruneContainers(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	if err := a.confirm(c, "This will remove all stopped containers."); err != nil {
		return err
	}
	freed, err := a.pruneOnlyContainers(c, f)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}

// pruneOnlyContainers removes containers and tells what went.
func (a *app) pruneOnlyContainers(c *cli.Context, f client.Filters) (freed uint64, err error) {
	api, err := a.api()
	if err != nil {
		return 0, err
	}
	got, err := api.ContainerPrune(c.Context, client.ContainerPruneOptions{Filters: f})
	a.removed("Containers", got.Report.ContainersDeleted)
	return got.Report.SpaceReclaimed, err
}

func (a *app) pruneImages(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	if err := a.confirm(c, "This will remove "+unusedImages(c)+"."); err != nil {
		return err
	}
	freed, err := a.pruneOnlyImages(c, f)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(freed)))
	return nil
}

func unusedImages(c *cli.Context) string {
	if c.Bool("all") {
		return "all images without at least one container associated to them"
	}
	return "all dangling images"
}

// confirm asks whether to go on, but for --force.
func (a *app) confirm(c *cli.Context, what string) error {
	if c.Bool("force") {
		return nil
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	text, err := a.ask(ctx, fmt.Sprintf("WARNING! %s\nAre you sure you want to continue? [y/N] ", what), false)
	if err != nil {
		return err
	}
	if t := strings.ToLower(strings.TrimSpace(text)); t != "y" && t != "yes" {
		return &status{1, "nothing was removed"}
	}
	return nil
}

// pruneOnlyImages removes images and tells what went.
func (a *app) pruneOnlyImages(c *cli.Context, f client.Filters) (freed uint64, err error) {
	api, err := a.api()
	if err != nil {
		return 0, err
	}
	mine := make(client.Filters)
	for k, values := range f {
		for v := range values {
			mine.Add(k, v)
		}
	}
	mine.Add("dangling", fmt.Sprint(!c.Bool("all")))
	got, err := api.ImagePrune(c.Context, client.ImagePruneOptions{Filters: mine})
	if err != nil {
		return 0, err
	}
	var lines []string
	for _, d := range got.Report.ImagesDeleted {
		if d.Untagged != "" {
			lines = append(lines, "untagged: "+d.Untagged)
		} else {
			lines = append(lines, "deleted: "+d.Deleted)
		}
	}
	a.removed("Images", lines)
	return got.Report.SpaceReclaimed, nil
}

func (a *app) removed(kind string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(a.out, "Deleted %s:\n%s\n\n", kind, strings.Join(names, "\n"))
	}
}

// pruneSystem removes whatever is not used. What the engine cannot prune yet is
// said, and is no failure unless it was asked for by name.
func (a *app) pruneSystem(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	if c.Bool("volumes") && f["until"] != nil {
		return &status{1, `the "until" filter is not supported with "--volumes"`}
	}
	what := []string{"all stopped containers", "all networks not used by at least one container"}
	if c.Bool("volumes") {
		what = append(what, "all anonymous volumes not used by at least one container")
	}
	what = append(what, unusedImages(c))
	if err := a.confirm(c, "This will remove:\n  - "+strings.Join(what, "\n  - ")+"\n"); err != nil {
		return err
	}
	var total uint64
	var cannot []string
	for _, p := range a.pruners(c, f) {
		freed, err := p.prune()
		if errdefs.IsNotImplemented(err) {
			cannot = append(cannot, p.what+" are not pruned: "+message(err))
			if p.asked {
				return errors.New(cannot[len(cannot)-1])
			}
			continue
		}
		if err != nil {
			return err
		}
		total += freed
	}
	for _, text := range cannot {
		fmt.Fprintln(a.err, text)
	}
	fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(total)))
	return nil
}

// pruner removes the unused things of one kind.
type pruner struct {
	what  string
	asked bool
	prune func() (freed uint64, err error)
}

// pruners are in docker's order: what uses something goes before it.
func (a *app) pruners(c *cli.Context, f client.Filters) []pruner {
	all := []pruner{
		{"Containers", true, func() (uint64, error) { return a.pruneOnlyContainers(c, f) }},
		{"Networks", false, func() (uint64, error) {
			api, err := a.api()
			if err != nil {
				return 0, err
			}
			got, err := api.NetworkPrune(c.Context, client.NetworkPruneOptions{Filters: f})
			a.removed("Networks", got.Report.NetworksDeleted)
			return 0, err
		}},
	}
	if c.Bool("volumes") {
		all = append(all, pruner{"Volumes", true, func() (uint64, error) {
			return a.pruneOnlyVolumes(c, f)
		}})
	}
	return append(all, pruner{"Images", true, func() (uint64, error) { return a.pruneOnlyImages(c, f) }})
}
