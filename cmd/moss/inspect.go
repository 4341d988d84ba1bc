package main

import (
	"bytes"
	"encoding/json"
	"fmt"

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
	found := make([]any, 0, c.NArg())
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

func printFound(a *app, format string, found []any) error {
	if format == "" || format == "json" {
		return printOne(a.out, format, found)
	}
	for _, v := range found {
		if err := printOne(a.out, format, v); err != nil {
			return err
		}
	}
	return nil
}

// inspectOne gives what the engine said as it said it; templates see the names
// in its JSON.
func (a *app) inspectOne(c *cli.Context, kind, ref string) (any, error) {
	api, err := a.api()
	if err != nil {
		return nil, err
	}
	var v any
	if kind == "volume" {
		got, err := api.VolumeInspect(c.Context, ref, client.VolumeInspectOptions{})
		if err == nil {
			err = exact(got.Raw, &v)
		}
		return v, err
	}
	if kind == "secret" || kind == "config" {
		return inspectKept(c, api, kind, ref)
	}
	if kind == "" || kind == "container" {
		got, err := api.ContainerInspect(c.Context, ref, client.ContainerInspectOptions{Size: c.Bool("size")})
		if err == nil {
			err = exact(got.Raw, &v)
			return v, err
		}
		if kind == "container" || !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	if kind == "network" {
		return inspectNetwork(c, api, ref)
	}
	var raw bytes.Buffer
	_, err = api.ImageInspect(c.Context, ref, client.ImageInspectWithRawResponse(&raw))
	if errdefs.IsNotFound(err) && kind == "" {
		if v, err := a.inspectOne(c, "volume", ref); err == nil {
			return v, nil
		}
		if v, err := inspectNetwork(c, api, ref); !errdefs.IsNotFound(err) {
			return v, err
		}
		return nil, fmt.Errorf("no such object: %s", ref)
	}
	if err == nil {
		err = exact(raw.Bytes(), &v)
	}
	return v, err
}

// exact decodes JSON so that templates print its numbers as they are: 1048576 is
// no 1.048576e+06.
func exact(data []byte, v *any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

func inspectNetwork(c *cli.Context, api *client.Client, ref string) (any, error) {
	got, err := api.NetworkInspect(c.Context, ref, client.NetworkInspectOptions{Verbose: c.Bool("verbose")})
	if err != nil {
		return nil, err
	}
	var v any
	err = exact(got.Raw, &v)
	return v, err
}
