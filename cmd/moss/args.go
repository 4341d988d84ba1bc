package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// programs are the subcommands whose first argument begins another program's
// command line: flags after it are not ours.
var programs = []string{"run", "create", "exec", "top", "unshare"}

// normalize rewrites a command line in docker's style to what urfave/cli reads:
// -it becomes -i -t, -p80:80 becomes -p 80:80, and flags after arguments come
// before them, but for those of a container's own program. A flag has its first
// name, since urfave/cli lets nobody say -e and --env in one line.
func normalize(root *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out := args[:1:1]
	flags, rest := split(root.Flags, args[1:], true)
	out = append(out, flags...)
	if len(rest) == 0 {
		return out
	}
	return append(out, normalizeCommand(root.Commands, rest)...)
}

// normalizeCommand does it from the name of a command on.
func normalizeCommand(known []*cli.Command, words []string) []string {
	cmd := lookup(known, words[0])
	if cmd == nil {
		return words
	}
	group := len(cmd.Subcommands) > 0
	flags, operands := split(cmd.Flags, words[1:], group || slices.Contains(programs, cmd.Name))
	out := append([]string{words[0]}, flags...)
	switch {
	case len(operands) == 0:
		return out
	case group:
		return append(out, normalizeCommand(cmd.Subcommands, operands)...)
	default:
		return append(append(out, "--"), operands...)
	}
}

func lookup(known []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(known, func(c *cli.Command) bool { return c.HasName(name) })
	if i < 0 {
		return nil
	}
	return known[i]
}

// split parts flags with their values from operands. With stop, the first
// operand ends the flags.
func split(known []cli.Flag, args []string, stop bool) (flags, operands []string) {
	byName := make(map[string]cli.Flag)
	for _, f := range known {
		for _, n := range f.Names() {
			byName[n] = f
		}
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flags, append(operands, args[i+1:]...)
		case len(arg) < 2 || arg[0] != '-':
			if stop {
				return flags, append(operands, args[i:]...)
			}
			operands = append(operands, arg)
		case strings.HasPrefix(arg, "--"):
			name, _, valued := strings.Cut(arg[2:], "=")
			f, ok := byName[name]
			if ok {
				arg = first(f) + arg[2+len(name):]
			}
			flags = append(flags, arg)
			if ok && !isBool(f) && !valued && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		default:
			short, needsValue := shorts(byName, arg[1:])
			flags = append(flags, short...)
			if needsValue && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		}
	}
	return flags, operands
}

func isBool(f cli.Flag) bool {
	switch f.(type) {
	case *cli.BoolFlag, *boolFlag:
		return true
	}
	return false
}

// first is a flag as it is written with the first of its names.
func first(f cli.Flag) string { return "--" + f.Names()[0] }

// shorts spreads out a cluster of one-letter flags; the last may bring its
// value along.
func shorts(byName map[string]cli.Flag, cluster string) (flags []string, needsValue bool) {
	for i := 0; i < len(cluster); i++ {
		rest := cluster[i+1:]
		f, known := byName[cluster[i:i+1]]
		switch {
		case !known: // let the parser complain about it as it was written
			return append(flags, "-"+cluster[i:]), false
		case !isBool(f) && rest == "":
			return append(flags, first(f)), true
		case !isBool(f):
			return append(flags, first(f)+"="+strings.TrimPrefix(rest, "=")), false
		case strings.HasPrefix(rest, "="):
			return append(flags, first(f)+rest), false
		}
		flags = append(flags, first(f))
	}
	return flags, false
}
