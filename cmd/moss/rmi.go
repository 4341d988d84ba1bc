package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) rmi(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	failed := 0
	for _, ref := range c.Args().Slice() {
		done, err := api.ImageRemove(c.Context, ref, client.ImageRemoveOptions{Force: c.Bool("force"), PruneChildren: !c.Bool("no-prune")})
		if err != nil {
			fmt.Fprintln(a.err, message(err))
			if !c.Bool("force") || !errdefs.IsNotFound(err) {
				failed = 1
			}
			continue
		}
		for _, d := range done.Items {
			if d.Untagged != "" {
				fmt.Fprintln(a.out, "Untagged: "+d.Untagged)
			}
			if d.Deleted != "" {
				fmt.Fprintln(a.out, "Deleted: "+d.Deleted)
			}
		}
	}
	if failed != 0 {
		return &status{code: failed}
	}
	return nil
}

func (a *app) tag(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.ImageTag(c.Context, client.ImageTagOptions{Source: c.Args().Get(0), Target: c.Args().Get(1)})
	return err
}
