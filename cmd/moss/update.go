package main

import (
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

// updateFlags are those of create that can be changed later.
func updateFlags(create []cli.Flag) []cli.Flag {
	return slices.DeleteFunc(create, func(f cli.Flag) bool {
		return !slices.Contains([]string{
			"blkio-weight", "cpu-rt-period", "cpu-rt-runtime", "kernel-memory", "cpu-period", "cpu-quota", "cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "memory", "memory-reservation", "memory-swap", "pids-limit", "restart",
		}, f.Names()[0])
	})
}

func (a *app) update(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	var h container.HostConfig
	if err := addResources(c, &h); err != nil {
		return err
	}
	if err := addOldLimits(c, &h); err != nil {
		return err
	}
	if err := addRestart(c, &h); err != nil {
		return err
	}
	if c.NumFlags() == 0 {
		return &status{1, "no flag says what to change"}
	}
	return a.each(c, func(ref string) error {
		got, err := api.ContainerUpdate(c.Context, ref, client.ContainerUpdateOptions{Resources: &h.Resources, RestartPolicy: &h.RestartPolicy})
		for _, w := range got.Warnings {
			fmt.Fprintln(a.err, "WARNING:", w)
		}
		return err
	})
}
