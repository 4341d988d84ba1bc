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
	intFlag struct {
		*cli.IntFlag
		names []string
	}
	int64Flag struct {
		*cli.Int64Flag
		names []string
	}
	durationFlag struct {
		*cli.DurationFlag
		names []string
	}
)

func (f *stringFlag) Names() []string   { return f.names }
func (f *listFlag) Names() []string     { return f.names }
func (f *boolFlag) Names() []string     { return f.names }
func (f *intFlag) Names() []string      { return f.names }
func (f *int64Flag) Names() []string    { return f.names }
func (f *durationFlag) Names() []string { return f.names }

// names are those that Names of urfave/cli gives for names without commas and spaces.
func allNames(name string, aliases []string) []string { return append([]string{name}, aliases...) }

// quick makes the plain ones among flags such.
func quick(flags []cli.Flag) []cli.Flag {
	out := make([]cli.Flag, len(flags))
	for i, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			out[i] = &stringFlag{f, allNames(f.Name, f.Aliases)}
		case *cli.StringSliceFlag:
			out[i] = &listFlag{f, allNames(f.Name, f.Aliases)}
		case *cli.BoolFlag:
			out[i] = &boolFlag{f, allNames(f.Name, f.Aliases)}
		case *cli.IntFlag:
			out[i] = &intFlag{f, allNames(f.Name, f.Aliases)}
		case *cli.Int64Flag:
			out[i] = &int64Flag{f, allNames(f.Name, f.Aliases)}
		case *cli.DurationFlag:
			out[i] = &durationFlag{f, allNames(f.Name, f.Aliases)}
		default:
			out[i] = f
		}
	}
	return out
}

func newStringFlag(use, name string, aliases ...string) cli.Flag {
	return &stringFlag{&cli.StringFlag{Name: name, Aliases: aliases, Usage: use}, allNames(name, aliases)}
}

func newListFlag(use, name string, aliases ...string) cli.Flag {
	return &listFlag{&cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: use}, allNames(name, aliases)}
}

func newBoolFlag(use, name string, aliases ...string) cli.Flag {
	return &boolFlag{&cli.BoolFlag{Name: name, Aliases: aliases, Usage: use}, allNames(name, aliases)}
}
