package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// group is a command of commands, like docker's image.
func group(name, use string, commands ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: use, Subcommands: commands, HideHelpCommand: true, OnUsageError: usage,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &status{1, fmt.Sprintf("unknown command %q; 'moss %s --help' lists them", name+" "+c.Args().First(), name)}
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// named is the same command under another name.
func named(c *cli.Command, name string, more ...string) *cli.Command {
	other := *c
	other.Name, other.Aliases = name, more
	return &other
}
