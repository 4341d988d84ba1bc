package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/moss"
)

func (a *app) secretCommands() []*cli.Command {
	return []*cli.Command{group("secret", "commands for secrets", a.keptCommands(moss.KindSecret)...)}
}

// keptCommands are those of secrets, and those of configs.
func (a *app) keptCommands(kind moss.SecretKind) []*cli.Command {
	k := string(kind)
	return []*cli.Command{
		command("create", "NAME FILE|-", "keep a "+k+", which is read from a file or the input", 2, 2, []cli.Flag{
			newListFlag("label `KEY[=VALUE]`", "label", "l"),
		}, func(c *cli.Context) error { return a.createKept(c, kind) }),
		command("inspect", "NAME…", "tell all about "+k+"s", 1, -1, []cli.Flag{formatFlag()}, func(c *cli.Context) error { return a.inspectKind(c, k) }),
		named(command("ls", "", "list "+k+"s", 0, 0, []cli.Flag{
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those for which `KEY=VALUE` holds: id, label, name, names"},
			&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only ids"},
		}, func(c *cli.Context) error { return a.listKept(c, kind) }), "ls", "list"),
		named(command("rm", "NAME…", "remove "+k+"s", 1, -1, nil, func(c *cli.Context) error { return a.removeKept(c, kind) }), "rm", "remove"),
	}
}

func (a *app) createKept(c *cli.Context, kind moss.SecretKind) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	in := a.in
	if name := c.Args().Get(1); name != "-" {
		if in, err = os.Open(name); err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // it was only read
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("cannot read the %s: %w", kind, err)
	}
	called := swarm.Annotations{Name: c.Args().First(), Labels: toMap(c.StringSlice("label"))}
	var id string
	if kind == moss.KindSecret {
		made, createErr := api.SecretCreate(c.Context, client.SecretCreateOptions{Spec: swarm.SecretSpec{Annotations: called, Data: data}})
		id, err = made.ID, createErr
	} else {
		made, createErr := api.ConfigCreate(c.Context, client.ConfigCreateOptions{Spec: swarm.ConfigSpec{Annotations: called, Data: data}})
		id, err = made.ID, createErr
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, id)
	return nil
}

var keptColumns = []column{{"ID", "ID"}, {"Name", "NAME"}, {"Driver", "DRIVER"}, {"CreatedAt", "CREATED"}, {"UpdatedAt", "UPDATED"}, {"Labels", "LABELS"}}

func (a *app) listKept(c *cli.Context, kind moss.SecretKind) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	f, err := filters(c)
	if err != nil {
		return err
	}
	rows := []map[string]string{}
	plain := "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}"
	if kind == moss.KindSecret {
		plain = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}"
		list, err := api.SecretList(c.Context, client.SecretListOptions{Filters: f})
		if err != nil {
			return err
		}
		for _, one := range list.Items {
			rows = append(rows, keptRow(one.ID, one.Meta, one.Spec.Annotations))
		}
	} else {
		list, err := api.ConfigList(c.Context, client.ConfigListOptions{Filters: f})
		if err != nil {
			return err
		}
		for _, one := range list.Items {
			rows = append(rows, keptRow(one.ID, one.Meta, one.Spec.Annotations))
		}
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return printRows(a.out, format, plain, keptColumns, rows)
}

func keptRow(id string, meta swarm.Meta, called swarm.Annotations) map[string]string {
	ago := func(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(called.Labels)) {
		labels = append(labels, k+"="+called.Labels[k])
	}
	return map[string]string{"ID": id, "Name": called.Name, "Driver": "", "CreatedAt": ago(meta.CreatedAt), "UpdatedAt": ago(meta.UpdatedAt), "Labels": strings.Join(labels, ",")}
}

func (a *app) removeKept(c *cli.Context, kind moss.SecretKind) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		var err error
		if kind == moss.KindSecret {
			_, err = api.SecretRemove(c.Context, ref, client.SecretRemoveOptions{})
		} else {
			_, err = api.ConfigRemove(c.Context, ref, client.ConfigRemoveOptions{})
		}
		return err
	})
}

func inspectKept(c *cli.Context, api *client.Client, kind, ref string) (inspected, error) {
	if kind == string(moss.KindSecret) {
		got, err := api.SecretInspect(c.Context, ref, client.SecretInspectOptions{})
		if err != nil {
			return inspected{}, err
		}
		return exact(got.Raw, got.Secret)
	}
	got, err := api.ConfigInspect(c.Context, ref, client.ConfigInspectOptions{})
	if err != nil {
		return inspected{}, err
	}
	return exact(got.Raw, got.Config)
}

// keptLabels turns --secret and --config into the labels by which any client
// asks for secrets and configs.
func keptLabels(c *cli.Context, labels map[string]string) error {
	for flag, prefix := range map[string]string{"secret": moss.SecretLabel, "config": moss.ConfigLabel} {
		for _, given := range c.StringSlice(flag) {
			name, options, err := keptOptions(given)
			if err != nil {
				return &status{125, fmt.Sprintf("cannot use --%s %q: %v", flag, given, err)}
			}
			if have, ok := labels[prefix+name]; ok {
				options = have + ";" + options
			}
			labels[prefix+name] = options
		}
	}
	return nil
}

// keptOptions reads NAME, or docker's source=…,target=…,mode=…,uid=…,gid=….
func keptOptions(given string) (name, options string, err error) {
	if !strings.ContainsAny(given, "=,") {
		return given, "", nil
	}
	var rest []string
	for part := range strings.SplitSeq(given, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "source", "src":
			name = value
		case "target", "dst", "destination":
			rest = append(rest, "target="+value)
		case "mode", "uid", "gid":
			rest = append(rest, part)
		case "type":
			if value != "mount" {
				return "", "", fmt.Errorf("type %q is not mount: what is in the environment, every process of yours can read", value)
			}
		default:
			return "", "", fmt.Errorf("unknown setting %q", key)
		}
	}
	if options = strings.Join(rest, ","); strings.ContainsAny(options, ";\"") {
		return "", "", fmt.Errorf("a semicolon or a quote cannot be part of it")
	}
	if name == "" {
		return "", "", fmt.Errorf("the source is missing")
	}
	return name, options, nil
}
