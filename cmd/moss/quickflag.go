package main

import "github.com/urfave/cli/v2"

// urfave/cli asks a flag for its names again and again, and each time runs a
// regular expression over them: more than a millisecond for the flags of run.
// These keep the answer.
type (
	stringFlag struct {
		*cli.StringFlag
		names []string
	}
	listFlag struct {
		*cli.StringSliceFlag
		names []string
	}
	boolFlag struct {
		*cli.BoolFlag
		names []string
	}
)

func (f *stringFlag) Names() []string { return f.names }
func (f *listFlag) Names() []string   { return f.names }
func (f *boolFlag) Names() []string   { return f.names }

func newStringFlag(use, name string, aliases ...string) cli.Flag {
	return &stringFlag{&cli.StringFlag{Name: name, Aliases: aliases, Usage: use}, append([]string{name}, aliases...)}
}

func newListFlag(use, name string, aliases ...string) cli.Flag {
	return &listFlag{&cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: use}, append([]string{name}, aliases...)}
}

func newBoolFlag(use, name string, aliases ...string) cli.Flag {
	return &boolFlag{&cli.BoolFlag{Name: name, Aliases: aliases, Usage: use}, append([]string{name}, aliases...)}
}
