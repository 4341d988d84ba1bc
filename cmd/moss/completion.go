package main

import (
	"embed"
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts are thin: they hand the words to moss and show what it prints.
//
//go:embed completions
var completions embed.FS

func (a *app) completionCommand() *cli.Command {
	return command("completion", "SHELL", "print the script for completion in bash, zsh or fish", 1, 1, nil, func(c *cli.Context) error {
		text, err := completions.ReadFile("completions/moss." + c.Args().First())
		if err != nil {
			return &status{1, fmt.Sprintf("cannot complete in %q: it is none of bash, zsh, fish", c.Args().First())}
		}
		_, err = a.out.Write(text)
		return err
	})
}
