package main

import (
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) logs(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	ref := c.Args().First()
	got, err := api.ContainerInspect(c.Context, ref, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	r, err := api.ContainerLogs(c.Context, ref, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Since: c.String("since"), Until: c.String("until"), Timestamps: c.Bool("timestamps"),
		Follow: c.Bool("follow"), Tail: c.String("tail"), Details: c.Bool("details"),
	})
	if err != nil {
		return err
	}
	defer r.Close()
	if got.Container.Config.Tty {
		_, err = io.Copy(a.out, r)
	} else {
		_, err = stdcopy.StdCopy(a.out, a.err, r)
	}
	return err
}
