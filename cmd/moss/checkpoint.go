package main

import (
	"fmt"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

// checkpointCommands are docker's. It is the engine that says why there are none.
func (a *app) checkpointCommands() *cli.Command {
	dir := &cli.StringFlag{Name: "checkpoint-dir", Usage: "`DIRECTORY` of the checkpoints"}
	return group("checkpoint", "commands for checkpoints of containers, which the engine refuses: they need privilege",
		command("create", "CONTAINER CHECKPOINT", "write a container's processes to the disk", 2, 2, []cli.Flag{
			dir, &cli.BoolFlag{Name: "leave-running", Usage: "let the container go on"},
		}, a.createCheckpoint),
		named(command("ls", "CONTAINER", "list the checkpoints of a container", 1, 1, []cli.Flag{dir}, a.listCheckpoints), "ls", "list"),
		named(command("rm", "CONTAINER CHECKPOINT", "remove a checkpoint", 2, 2, []cli.Flag{dir}, a.removeCheckpoint), "rm", "remove"),
	)
}

func (a *app) createCheckpoint(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.CheckpointCreate(c.Context, c.Args().First(), client.CheckpointCreateOptions{
		CheckpointID: c.Args().Get(1), CheckpointDir: c.String("checkpoint-dir"), Exit: !c.Bool("leave-running"),
	})
	if err == nil {
		fmt.Fprintln(a.out, c.Args().Get(1))
	}
	return err
}

func (a *app) listCheckpoints(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.CheckpointList(c.Context, c.Args().First(), client.CheckpointListOptions{CheckpointDir: c.String("checkpoint-dir")})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, "CHECKPOINT NAME")
	for _, item := range got.Items {
		fmt.Fprintln(a.out, item.Name)
	}
	return nil
}

func (a *app) removeCheckpoint(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.CheckpointRemove(c.Context, c.Args().First(), client.CheckpointRemoveOptions{
		CheckpointID: c.Args().Get(1), CheckpointDir: c.String("checkpoint-dir"),
	})
	return err
}
