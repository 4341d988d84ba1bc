package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

// imageCommands are docker's commands for images; image groups them.
func (a *app) imageCommands() []*cli.Command {
	images := command("images", "[NAME[:TAG]]", "list images", 0, 1, listFlags(
		&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also intermediate ones"},
		&cli.BoolFlag{Name: "digests", Usage: "with their digests"},
	), a.images)
	rmi := command("rmi", "IMAGE…", "remove images", 1, -1, []cli.Flag{
		&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also where stopped containers use it"},
		&cli.BoolFlag{Name: "no-prune", Usage: "keep untagged parents"},
	}, a.rmi)
	common := slices.Concat(a.transferCommands(), a.archiveCommands(), []*cli.Command{
		command("history", "IMAGE", "tell how an image was made", 1, 1, []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
			&cli.BoolFlag{Name: "human", Aliases: []string{"H"}, Value: true, Usage: "sizes and times for people"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not cut anything short"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only ids"},
		}, a.history),
		command("tag", "IMAGE NAME[:TAG]", "give an image a further name", 2, 2, nil, a.tag),
	})
	return slices.Concat(
		[]*cli.Command{images, rmi}, common, a.registryCommands(),
		[]*cli.Command{group("image", "commands for images", slices.Concat([]*cli.Command{
			named(images, "ls", "list"),
			named(rmi, "rm", "remove"),
			command("inspect", "IMAGE…", "print all that is known of images", 1, -1, []cli.Flag{formatFlag()}, a.inspectImages),
			command("prune", "", "remove unused images", 0, 0, pruneFlags("all that no container uses, not only those without a name"), a.pruneImages),
		}, common)...)},
	)
}

// transferCommands move images between the engine and registries.
func (a *app) transferCommands() []*cli.Command {
	return []*cli.Command{
		command("pull", "NAME[:TAG|@DIGEST]", "fetch an image from a registry", 1, 1, []cli.Flag{
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "all of the repository's"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only the name"},
			platformFlag("image for `OS/ARCH[/VARIANT]`"),
		}, a.pull),
		command("push", "NAME[:TAG]", "send an image to a registry", 1, 1, []cli.Flag{
			&cli.BoolFlag{Name: "all-tags", Aliases: []string{"a"}, Usage: "all of the repository's"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only the name"},
			&cli.StringFlag{Name: "platform", Usage: "only the image for `OS/ARCH[/VARIANT]`"},
		}, a.push),
	}
}

// archiveCommands move images between the engine and archives.
func (a *app) archiveCommands() []*cli.Command {
	return []*cli.Command{
		command("save", "IMAGE…", "write images to an archive", 1, -1, []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of stdout"},
			&cli.StringFlag{Name: "platform", Usage: "only the image for `OS/ARCH[/VARIANT]`"},
		}, a.save),
		command("load", "", "load images from an archive", 0, 0, []cli.Flag{
			&cli.StringFlag{Name: "input", Aliases: []string{"i"}, Usage: "read `FILE` instead of stdin"},
			&cli.StringFlag{Name: "platform", Usage: "only the image for `OS/ARCH[/VARIANT]`"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print no progress"},
		}, a.load),
		command("import", "FILE|URL|- [NAME[:TAG]]", "make an image of a root file system's archive", 1, 2, []cli.Flag{
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "apply a Dockerfile `INSTRUCTION`"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` for the history"},
			platformFlag("say that it is for `OS/ARCH[/VARIANT]`"),
		}, a.imports),
	}
}

// registryCommands are about registries, not about one image.
func (a *app) registryCommands() []*cli.Command {
	return []*cli.Command{
		command("login", "[SERVER]", "log in to a registry, docker.io if none is given", 0, 1, []cli.Flag{
			&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "`NAME` of the user"},
			&cli.StringFlag{Name: "password", Aliases: []string{"p"}, Usage: "`PASSWORD` or token; other users of the machine can see it"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from stdin"},
		}, a.login),
		command("logout", "[SERVER]", "forget the login to a registry, docker.io if none is given", 0, 1, nil, a.logout),
		command("search", "TERM", "search a registry for images", 1, 1, []cli.Flag{
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those for which `KEY=VALUE` holds: is-official, stars"},
			&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
			&cli.IntFlag{Name: "limit", Usage: "most results, `NUMBER`"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not cut anything short"},
		}, a.search),
	}
}
