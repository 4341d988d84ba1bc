package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) inspect(c *cli.Context) error {
	kind := c.String("type")
	switch kind {
	case "", "container", "image", "network", "volume":
		return a.inspectKind(c, kind)
	}
	return &status{1, fmt.Sprintf("cannot use --type %q: it is none of container, image, network, volume", kind)}
}

func (a *app) inspectImages(c *cli.Context) error     { return a.inspectKind(c, "image") }
func (a *app) inspectContainers(c *cli.Context) error { return a.inspectKind(c, "container") }

func (a *app) inspectKind(c *cli.Context, kind string) error {
	failed := 0
	found := make([]inspected, 0, c.NArg())
	for _, ref := range c.Args().Slice() {
		v, err := a.inspectOne(c, kind, ref)
		if err != nil {
			fmt.Fprintln(a.err, message(err))
			failed = 1
			continue
		}
		found = append(found, v)
	}
	if err := printFound(a, c.String("format"), found); err != nil {
		return err
	}
	if failed != 0 {
		return &status{code: failed}
	}
	return nil
}

// inspected is one thing: as the engine said it, whose names templates see, and
// as the API's type, which also has the fields that are left out when empty.
type inspected struct{ said, typed any }

func printFound(a *app, format string, found []inspected) error {
	if format == "" || format == "json" {
		all := make([]any, 0, len(found))
		for _, f := range found {
			all = append(all, f.said)
		}
		return printOne(a.out, format, all)
	}
	for _, f := range found {
		if err := f.print(a.out, format); err != nil {
			return err
		}
	}
	return nil
}

// print falls back on the type, where docker's client begins with it: a
// container without a health check has no State.Health to ask for otherwise.
func (f inspected) print(w io.Writer, format string) error {
	var text bytes.Buffer
	err := printOne(&text, format, f.said)
	if err != nil && f.typed != nil {
		text.Reset()
		if printOne(&text, format, f.typed) == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	_, err = text.WriteTo(w)
	return err
}

func (a *app) inspectOne(c *cli.Context, kind, ref string) (inspected, error) {
	api, err := a.api()
	if err != nil {
		return inspected{}, err
	}
	if kind == "volume" {
		got, err := api.VolumeInspect(c.Context, ref, client.VolumeInspectOptions{})
		if err != nil {
			return inspected{}, err
		}
		return exact(got.Raw, got.Volume)
	}
	if kind == "secret" || kind == "config" {
		return inspectKept(c, api, kind, ref)
	}
	if kind == "" || kind == "container" {
		got, err := api.ContainerInspect(c.Context, ref, client.ContainerInspectOptions{Size: c.Bool("size")})
		if err == nil {
			return exact(got.Raw, got.Container)
		}
		if kind == "container" || !errdefs.IsNotFound(err) {
			return inspected{}, err
		}
	}
	if kind == "network" {
		return inspectNetwork(c, api, ref)
	}
	var raw bytes.Buffer
	got, err := api.ImageInspect(c.Context, ref, client.ImageInspectWithRawResponse(&raw))
	if errdefs.IsNotFound(err) && kind == "" {
		if v, err := a.inspectOne(c, "volume", ref); err == nil {
			return v, nil
		}
		if v, err := inspectNetwork(c, api, ref); !errdefs.IsNotFound(err) {
			return v, err
		}
		return inspected{}, fmt.Errorf("no such object: %s", ref)
	}
	if err != nil {
		return inspected{}, err
	}
	return exact(raw.Bytes(), got.InspectResponse)
}

// exact decodes JSON so that templates print its numbers as they are: 1048576 is
// no 1.048576e+06.
func exact(data []byte, typed any) (inspected, error) {
	f := inspected{typed: typed}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return f, d.Decode(&f.said)
}

func inspectNetwork(c *cli.Context, api *client.Client, ref string) (inspected, error) {
	got, err := api.NetworkInspect(c.Context, ref, client.NetworkInspectOptions{Verbose: c.Bool("verbose")})
	if err != nil {
		return inspected{}, err
	}
	return exact(got.Raw, got.Network)
}
