package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func (a *app) imageCommands() []*cli.Command {
	return []*cli.Command{
		command("images", "[NAME[:TAG]]", "list images", 0, 1, listFlags(
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also intermediate ones"},
			&cli.BoolFlag{Name: "digests", Usage: "with their digests"},
		), a.images),
		command("load", "", "load images from an archive", 0, 0, []cli.Flag{
			&cli.StringFlag{Name: "input", Aliases: []string{"i"}, Usage: "read `FILE` instead of stdin"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print no progress"},
		}, a.load),
		command("import", "FILE|- [NAME[:TAG]]", "make an image of a root file system's archive", 1, 2, []cli.Flag{
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "apply a Dockerfile `INSTRUCTION`"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` for the history"},
		}, a.imports),
		command("rmi", "IMAGE…", "remove images", 1, -1, []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also where stopped containers use it"},
			&cli.BoolFlag{Name: "no-prune", Usage: "keep untagged parents"},
		}, a.rmi),
		command("tag", "IMAGE NAME[:TAG]", "give an image a further name", 2, 2, nil, a.tag),
	}
}

var imageColumns = []column{
	{"ID", "IMAGE ID"},
	{"Repository", "REPOSITORY"},
	{"Tag", "TAG"},
	{"Digest", "DIGEST"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"Size", "SIZE"},
}

func (a *app) images(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	f, err := filters(c)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		f.Add("reference", c.Args().First())
	}
	list, err := api.ImageList(c.Context, client.ImageListOptions{All: c.Bool("all"), Filters: f})
	if err != nil {
		return err
	}
	var rows []map[string]string
	for _, i := range list.Items {
		id := i.ID
		if !c.Bool("no-trunc") {
			id = strings.TrimPrefix(id, "sha256:")
			id = id[:min(12, len(id))]
		}
		created := time.Unix(i.Created, 0)
		digests := make(map[string]string)
		for _, d := range i.RepoDigests {
			name, digest, _ := strings.Cut(d, "@")
			digests[name] = digest
		}
		tags := i.RepoTags
		if len(tags) == 0 {
			tags = []string{"<none>:<none>"}
		}
		for _, t := range tags {
			at := strings.LastIndex(t, ":")
			digest := "<none>"
			if d, ok := digests[t[:at]]; ok {
				digest = d
			}
			rows = append(rows, map[string]string{
				"ID": id, "Repository": t[:at], "Tag": t[at+1:], "Digest": digest,
				"CreatedSince": units.HumanDuration(time.Since(created)) + " ago", "CreatedAt": created.String(),
				"Size": units.HumanSizeWithPrecision(float64(i.Size), 3),
			})
		}
	}
	format, plain := c.String("format"), `{{.Repository}}	{{.Tag}}	{{.ID}}	{{.CreatedSince}}	{{.Size}}`
	if c.Bool("digests") {
		plain = `{{.Repository}}	{{.Tag}}	{{.Digest}}	{{.ID}}	{{.CreatedSince}}	{{.Size}}`
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return printRows(a.out, format, plain, imageColumns, rows)
}

func (a *app) load(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	in := a.in
	if path := c.String("input"); path != "" {
		if in, err = os.Open(path); err != nil {
			return err
		}
		defer in.Close()
	} else if term.IsTerminal(int(in.Fd())) {
		return &status{1, "requested load from stdin, but stdin is a terminal: give an archive with -i FILE or <FILE"}
	}
	r, err := api.ImageLoad(c.Context, in)
	if err != nil {
		return err
	}
	return a.progress(r, a.out)
}

func (a *app) imports(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	in := a.in
	if path := c.Args().First(); path != "-" {
		if in, err = os.Open(path); err != nil {
			return err
		}
		defer in.Close()
	}
	r, err := api.ImageImport(c.Context, client.ImageImportSource{Source: in, SourceName: "-"}, c.Args().Get(1),
		client.ImageImportOptions{Message: c.String("message"), Changes: c.StringSlice("change")})
	if err != nil {
		return err
	}
	return a.progress(r, a.out)
}

// progress prints the daemon's messages; the error among them is returned.
func (a *app) progress(r io.ReadCloser, w io.Writer) error {
	defer r.Close()
	d := json.NewDecoder(r)
	for {
		var m jsonstream.Message
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("cannot read the engine's progress: %w", err)
		}
		switch {
		case m.Error != nil:
			return errors.New(m.Error.Message)
		case m.Stream != "":
			fmt.Fprint(w, m.Stream)
		case m.ID != "" && m.Status != "":
			fmt.Fprintf(w, "%s: %s\n", m.ID, m.Status)
		case m.Status != "":
			fmt.Fprintln(w, m.Status)
		}
	}
}

func (a *app) rmi(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	failed := 0
	for _, ref := range c.Args().Slice() {
		done, err := api.ImageRemove(c.Context, ref, client.ImageRemoveOptions{Force: c.Bool("force"), PruneChildren: !c.Bool("no-prune")})
		if err != nil {
			fmt.Fprintln(a.err, message(err))
			failed = 1
			continue
		}
		for _, d := range done.Items {
			if d.Untagged != "" {
				fmt.Fprintln(a.out, "Untagged: "+d.Untagged)
			}
			if d.Deleted != "" {
				fmt.Fprintln(a.out, "Deleted: "+d.Deleted)
			}
		}
	}
	if failed != 0 {
		return &status{code: failed}
	}
	return nil
}

func (a *app) tag(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.ImageTag(c.Context, client.ImageTagOptions{Source: c.Args().Get(0), Target: c.Args().Get(1)})
	return err
}
