package main

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) containerCommands() []*cli.Command {
	detachKeys, proxy := detachKeysFlag(), sigProxyFlag()
	stopping := []cli.Flag{
		&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Usage: "`SIGNAL` to stop it with"},
		&cli.IntFlag{Name: "timeout", Aliases: []string{"time", "t"}, Usage: "`SECONDS` before it is killed, -1 for never"},
	}
	create := createFlags()
	list := []*cli.Command{
		a.runCommand(slices.Clone(create)),
		command("create", "IMAGE [COMMAND] [ARG…]", "create a container", 1, -1, create, a.create),
		command("start", "CONTAINER…", "start containers", 1, -1, []cli.Flag{
			&cli.BoolFlag{Name: "attach", Aliases: []string{"a"}, Usage: "attach to its output"},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "attach its stdin"},
			&cli.StringFlag{Name: "checkpoint", Usage: "refused: the engine has no checkpoints"},
			&cli.StringFlag{Name: "checkpoint-dir", Usage: "refused: the engine has no checkpoints"},
			detachKeys, proxy,
		}, a.start),
		command("stop", "CONTAINER…", "stop containers", 1, -1, stopping, a.stop),
		command("restart", "CONTAINER…", "stop containers and start them", 1, -1, stopping, a.restart),
		command("kill", "CONTAINER…", "signal containers", 1, -1, []cli.Flag{
			&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Value: "KILL", Usage: "`SIGNAL` to send"},
		}, a.kill),
		command("rm", "CONTAINER…", "remove containers", 1, -1, []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill running ones"},
			&cli.BoolFlag{Name: "link", Aliases: []string{"l"}, Usage: "the link OWNER/ALIAS, in place of a container"},
			&cli.BoolFlag{Name: "volumes", Aliases: []string{"v"}, Usage: "with their anonymous volumes"},
		}, a.rm),
		command("update", "CONTAINER…", "change limits and the restart policy of containers", 1, -1, updateFlags(slices.Clone(create)), a.update),
		command("top", "CONTAINER [PS OPTION…]", "list a container's processes, by columns as ps has them", 1, -1, nil, a.top),
		command("stats", "[CONTAINER…]", "show what containers use", 0, -1, []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that do not run"},
			&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
			&cli.BoolFlag{Name: "no-stream", Usage: "once only"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not cut ids short"},
		}, a.stats),
		command("pause", "CONTAINER…", "make all processes of containers stand still", 1, -1, nil, a.pause),
		command("unpause", "CONTAINER…", "let the processes of paused containers go on", 1, -1, nil, a.unpause),
		command("rename", "CONTAINER NAME", "give a container another name", 2, 2, nil, a.rename),
		command("wait", "CONTAINER…", "wait for containers to end and print their exit codes", 1, -1, nil, a.wait),
		a.psCommand(),
		command("port", "CONTAINER [PORT[/PROTOCOL]]", "print where a container's ports are published", 1, 2, nil, a.port),
		command("logs", "CONTAINER", "print a container's log", 1, 1, []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes"},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "with the time of each line"},
			&cli.StringFlag{Name: "tail", Aliases: []string{"n"}, Value: "all", Usage: "last `NUMBER` of lines"},
			&cli.StringFlag{Name: "since", Usage: "from a `TIME` on, or as long ago (2006-01-02T15:04:05, 42m)"},
			&cli.StringFlag{Name: "until", Usage: "up to a `TIME`"},
			&cli.BoolFlag{Name: "details", Usage: "with the log driver's attributes"},
		}, a.logs),
		command("attach", "CONTAINER", "join the streams of a running container", 1, 1, []cli.Flag{
			detachKeys, proxy, &cli.BoolFlag{Name: "no-stdin", Usage: "do not join stdin"},
		}, a.attach),
		a.execCommand(),
		command("commit", "CONTAINER [NAME[:TAG]]", "make an image of a container's files", 1, 2, []cli.Flag{
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "`AUTHOR` of the image"},
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "apply a Dockerfile `INSTRUCTION`"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` for the history"},
			&cli.BoolFlag{Name: "no-pause", Usage: "let its processes run on meanwhile"},
			&cli.BoolFlag{Name: "pause", Aliases: []string{"p"}, Value: true, Usage: "pause its processes meanwhile"},
		}, a.commit),
		command("cp", "CONTAINER:PATH PATH|- or PATH|- CONTAINER:PATH", "copy files between a container and here; - is an archive", 2, 2, []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "give what comes into the container to its user"},
			&cli.BoolFlag{Name: "follow-link", Aliases: []string{"L"}, Usage: "copy what a link in the source leads to"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "do not tell how much was copied"},
		}, a.cp),
		command("diff", "CONTAINER", "list what a container changed in its image's files", 1, 1, nil, a.diff),
		command("export", "CONTAINER", "write a container's files to an archive", 1, 1, []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of stdout"},
		}, a.export),
	}
	inspect := command("inspect", "NAME…", "print all that is known of containers or images", 1, -1, []cli.Flag{
		formatFlag(), sizeFlag(), &cli.StringFlag{Name: "type", Usage: "`KIND` of thing: container or image"},
	}, a.inspect)
	members := []*cli.Command{
		command("inspect", "CONTAINER…", "print all that is known of containers", 1, -1, []cli.Flag{formatFlag(), sizeFlag()}, a.inspectContainers),
		command("prune", "", "remove the containers that do not run", 0, 0, pruneFilterFlags(), a.pruneContainers),
	}
	for _, c := range list {
		if c.Name == "ps" {
			c = named(c, "ls", "list", "ps")
		}
		members = append(members, c)
	}
	return append(list, inspect, a.checkpointCommands(), group("container", "commands for containers", members...))
}

// alone makes a command that is called again and again without all the others:
// they are a quarter of moss's own start. It is nil for those that are not.
func (a *app) alone(name string) *cli.Command {
	switch name {
	case "run":
		return a.runCommand(createFlags())
	case "exec":
		return a.execCommand()
	case "ps":
		return a.psCommand()
	}
	return nil
}

func (a *app) runCommand(create []cli.Flag) *cli.Command {
	return command("run", "IMAGE [COMMAND] [ARG…]", "create a container and start it", 1, -1,
		append(create, detachFlag(), sigProxyFlag()), a.runContainer)
}

func (a *app) execCommand() *cli.Command {
	return command("exec", "CONTAINER COMMAND [ARG…]", "run a command in a running container", 2, -1, []cli.Flag{
		detachFlag(), detachKeysFlag(),
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "environment variable `NAME[=VALUE]`"},
		&cli.StringSliceFlag{Name: "env-file", Usage: "read environment variables from `FILE`"},
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "keep stdin open"},
		&cli.BoolFlag{Name: "privileged", Usage: "all that the user namespace allows"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:GROUP]` to run as"},
		&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "working `DIRECTORY`"},
	}, a.exec)
}

func (a *app) psCommand() *cli.Command {
	return command("ps", "", "list containers", 0, 0, listFlags(
		&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also those that do not run"},
		&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Value: -1, Usage: "the newest `NUMBER`"},
		&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "the newest one"},
		sizeFlag(),
	), a.ps)
}

func detachKeysFlag() cli.Flag {
	return &cli.StringFlag{Name: "detach-keys", Usage: "`KEYS` that detach, ctrl-p,ctrl-q by default"}
}

func sigProxyFlag() cli.Flag {
	return &cli.BoolFlag{Name: "sig-proxy", Value: true, Usage: "pass signals on to the process"}
}

func detachFlag() cli.Flag {
	return &cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it in the background"}
}

func sizeFlag() cli.Flag {
	return &cli.BoolFlag{Name: "size", Aliases: []string{"s"}, Usage: "with what containers take on the disk"}
}

func (a *app) stop(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerStop(c.Context, ref, client.ContainerStopOptions{Signal: c.String("signal"), Timeout: timeout(c)})
		return err
	})
}

func (a *app) restart(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerRestart(c.Context, ref, client.ContainerRestartOptions{Signal: c.String("signal"), Timeout: timeout(c)})
		return err
	})
}

func timeout(c *cli.Context) *int {
	if !c.IsSet("timeout") {
		return nil
	}
	n := c.Int("timeout")
	return &n
}

func (a *app) kill(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerKill(c.Context, ref, client.ContainerKillOptions{Signal: c.String("signal")})
		return err
	})
}

func (a *app) rm(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerRemove(c.Context, ref, client.ContainerRemoveOptions{Force: c.Bool("force"), RemoveVolumes: c.Bool("volumes"), RemoveLinks: c.Bool("link")})
		if c.Bool("force") && errdefs.IsNotFound(err) {
			fmt.Fprintln(a.err, message(err)) // what is not there is removed
			return errSaid
		}
		return err
	})
}

func (a *app) pause(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerPause(c.Context, ref, client.ContainerPauseOptions{})
		return err
	})
}

func (a *app) unpause(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.ContainerUnpause(c.Context, ref, client.ContainerUnpauseOptions{})
		return err
	})
}

func (a *app) rename(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	if _, err := api.ContainerRename(c.Context, c.Args().Get(0), client.ContainerRenameOptions{NewName: c.Args().Get(1)}); err != nil {
		return fmt.Errorf("failed to rename container: %w", err)
	}
	return nil
}

// notAwaited says that an answer to a wait is no exit code: the engine went, and
// answered with 125 for those who look at the code alone.
func notAwaited(r container.WaitResponse) bool {
	return r.Error != nil && r.Error.Message != "" && r.StatusCode == exitCannotRun
}

func (a *app) wait(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	failed := 0
	for _, ref := range c.Args().Slice() {
		w := api.ContainerWait(c.Context, ref, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case r := <-w.Result:
			if notAwaited(r) {
				fmt.Fprintln(a.err, r.Error.Message)
				failed = 1
				continue
			}
			fmt.Fprintln(a.out, r.StatusCode)
		case err := <-w.Error:
			fmt.Fprintln(a.err, message(err))
			failed = 1
		}
	}
	if failed != 0 {
		return &status{code: failed}
	}
	return nil
}
