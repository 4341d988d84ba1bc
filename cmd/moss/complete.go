package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

const (
	// completeFlag ends the command line of a shell that wants to know what its
	// last word may become. It is urfave/cli's name; that library itself gives up
	// at the "--" that normalize writes, and cannot complete a flag's value.
	completeFlag = "--generate-bash-completion"
	// completeTime is how long a key press may wait for the engine.
	completeTime = time.Second
)

// what a word may be the name of.
type kind int

const (
	nothing kind = iota
	anyContainer
	runningContainer
	anyImage
	anyThing // a container or an image
	anyVolume
	anySecret
	anyConfig
)

// operand says what a command's operands are: the first of them, or all.
type operand struct {
	kind kind
	all  bool
}

var operands = map[string]operand{
	"run": {anyImage, false}, "create": {anyImage, false},
	"start": {anyContainer, true}, "rm": {anyContainer, true}, "wait": {anyContainer, true}, "restart": {anyContainer, true},
	"stop": {runningContainer, true}, "kill": {runningContainer, true},
	"attach": {runningContainer, false}, "exec": {runningContainer, false},
	"logs": {anyContainer, false}, "export": {anyContainer, false}, "diff": {anyContainer, false}, "port": {runningContainer, false}, "commit": {anyContainer, false},
	"inspect": {anyThing, true}, "container inspect": {anyContainer, true}, "image inspect": {anyImage, true},
	"images": {anyImage, false}, "image ls": {anyImage, false}, "rmi": {anyImage, true}, "image rm": {anyImage, true},
	"pull": {anyImage, false}, "push": {anyImage, false}, "tag": {anyImage, false},
	"save": {anyImage, true}, "history": {anyImage, false},
	"volume rm": {anyVolume, true}, "volume remove": {anyVolume, true}, "volume inspect": {anyVolume, true}, "volume export": {anyVolume, false}, "volume import": {anyVolume, false}, "volume mount": {anyVolume, false},
	"secret rm": {anySecret, true}, "secret remove": {anySecret, true}, "secret inspect": {anySecret, true},
	"config rm": {anyConfig, true}, "config remove": {anyConfig, true}, "config inspect": {anyConfig, true},
}

// namedFlags are those whose values begin with a name; what follows it is the user's.
var namedFlags = map[string]struct {
	kind  kind
	after string
}{
	"volume": {anyVolume, ":"}, "volumes-from": {anyContainer, ""}, "secret": {anySecret, ""}, "config": {anyConfig, ""},
}

// valuesOf are what the value of a flag may be.
func (a *app) valuesOf(ctx context.Context, flag string) (all []string) {
	n, ok := namedFlags[flag]
	if !ok {
		return values[flag]
	}
	for _, name := range a.namesOf(ctx, n.kind) {
		all = append(all, name+n.after)
	}
	return all
}

// values are those of flags that take one of a few.
var values = map[string][]string{
	"pull":       {"always", "missing", "never"},
	"network":    {"bridge", "host", "none"},
	"restart":    {"always", "no", "on-failure", "unless-stopped"},
	"log-driver": {"journald", "json-file", "local", "none"},
	"type":       {"container", "image"},
	"attach":     {"stdin", "stdout", "stderr"},
	"signal":     {"HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"},
}

// complete prints what the last word may become, one a line. It is silent
// about what it cannot find out.
func (a *app) complete(ctx context.Context, root *cli.App, words []string) {
	if len(words) == 0 {
		return
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	for _, found := range a.candidates(ctx, a.place(root, before), before, last) {
		if strings.HasPrefix(found, last) {
			fmt.Fprintln(a.out, found)
		}
	}
}

// place is where in a command line a word stands.
type place struct {
	path     string         // names of the commands so far
	flags    []cli.Flag     // of the last of them
	commands []*cli.Command // below it
	operands []string       // so far
	program  bool           // the word is another program's
	unknown  bool           // a command that there is not
}

// place reads the words before the one to complete.
func (a *app) place(root *cli.App, before []string) place {
	p := place{flags: root.Flags, commands: root.Commands}
	given, rest := split(p.flags, before, true)
	a.host = hostOf(given)
	for len(p.commands) > 0 && len(rest) > 0 {
		cmd := lookup(p.commands, rest[0])
		if cmd == nil {
			p.unknown = true
			return p
		}
		foreign := slices.Contains(programs, cmd.Name)
		p.path = strings.TrimSpace(p.path + " " + cmd.Name)
		p.flags, p.commands = cmd.Flags, cmd.Subcommands
		_, rest = split(p.flags, rest[1:], foreign || len(p.commands) > 0)
		p.program = foreign && len(rest) > 0
	}
	p.operands = rest
	return p
}

func (a *app) candidates(ctx context.Context, p place, before []string, last string) []string {
	name, _, valued := strings.Cut(last, "=")
	var waiting cli.Flag // for its value
	if len(before) > 0 {
		waiting = flagFor(p.flags, before[len(before)-1])
	}
	switch {
	case p.unknown || p.program:
		return nil
	case slices.Contains(before, "--"): // an operand, whatever it looks like
	case valued && strings.HasPrefix(last, "--"):
		return prefixed(name+"=", a.valuesOf(ctx, name[2:]))
	case waiting != nil && !isBool(waiting):
		return a.valuesOf(ctx, waiting.Names()[0])
	case strings.HasPrefix(last, "-"):
		return flagNames(p.flags)
	case len(p.commands) > 0:
		return commandNames(p.commands)
	case p.path == "completion":
		return []string{"bash", "fish", "zsh"}
	}
	o, ok := operands[p.path]
	if !ok {
		o = operands[p.path[strings.LastIndex(p.path, " ")+1:]]
	}
	if len(p.operands) > 0 && !o.all {
		return nil
	}
	return slices.DeleteFunc(a.namesOf(ctx, o.kind), func(n string) bool { return slices.Contains(p.operands, n) })
}

// hostOf is the engine's address among flags.
func hostOf(flags []string) string {
	for i, f := range flags {
		if v, ok := strings.CutPrefix(f, "--host="); ok {
			return v
		}
		if v, ok := strings.CutPrefix(f, "-H="); ok {
			return v
		}
		if (f == "--host" || f == "-H") && i+1 < len(flags) {
			return flags[i+1]
		}
	}
	return ""
}

// flagFor is the flag that a word is, nil for none.
func flagFor(flags []cli.Flag, word string) cli.Flag {
	for _, f := range flags {
		if strings.HasPrefix(word, "-") && slices.Contains(f.Names(), strings.TrimLeft(word, "-")) {
			return f
		}
	}
	return nil
}

func flagNames(flags []cli.Flag) []string {
	all := []string{"--help"}
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				all = append(all, "--"+n)
			}
		}
	}
	return all
}

func commandNames(known []*cli.Command) (all []string) {
	for _, c := range known {
		all = append(all, c.Name)
	}
	return all
}

func prefixed(before string, words []string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = before + w
	}
	return all
}

// namesOf asks the engine; no answer is no names.
func (a *app) namesOf(ctx context.Context, k kind) (all []string) {
	api, err := a.api()
	if err != nil {
		return nil
	}
	switch k {
	case anyVolume:
		list, _ := api.VolumeList(ctx, client.VolumeListOptions{}) // no answer is no names
		for _, v := range list.Items {
			all = append(all, v.Name)
		}
	case anySecret:
		list, _ := api.SecretList(ctx, client.SecretListOptions{}) // no answer is no names
		for _, s := range list.Items {
			all = append(all, s.Spec.Name)
		}
	case anyConfig:
		list, _ := api.ConfigList(ctx, client.ConfigListOptions{}) // no answer is no names
		for _, c := range list.Items {
			all = append(all, c.Spec.Name)
		}
	default:
	}
	if k == anyContainer || k == runningContainer || k == anyThing {
		list, err := api.ContainerList(ctx, client.ContainerListOptions{All: k != runningContainer})
		if err != nil {
			return nil
		}
		for _, c := range list.Items {
			for _, n := range c.Names {
				all = append(all, strings.TrimPrefix(n, "/"))
			}
		}
	}
	if k == anyImage || k == anyThing {
		list, err := api.ImageList(ctx, client.ImageListOptions{})
		if err != nil {
			return all
		}
		for _, i := range list.Items {
			for _, t := range i.RepoTags {
				all = append(all, t)
				if name, ok := strings.CutSuffix(t, ":latest"); ok {
					all = append(all, name)
				}
			}
		}
	}
	return all
}
