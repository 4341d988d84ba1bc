package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// exitCannotRun is docker's exit code for what failed before the program ran.
const exitCannotRun = 125

// create makes a container, fetching the image where the pull policy says so,
// and writes its id to the cidfile.
func (a *app) makeContainer(c *cli.Context) (string, *container.Config, error) {
	o, err := createRequest(c)
	if err != nil {
		return "", nil, &status{exitCannotRun, message(err)}
	}
	api, err := a.api()
	if err != nil {
		return "", nil, err
	}
	if c.Command.Name == "run" && !c.Bool("activate") && o.Config.Tty && o.Config.AttachStdin && !term.IsTerminal(int(a.in.Fd())) {
		return "", nil, errNoTerminal // before there is a container that nobody starts
	}
	policy := c.String("pull")
	switch policy {
	case "", "missing", "never", "always":
	default:
		return "", nil, fmt.Errorf("cannot use --pull %q: it is none of always, missing, never", policy)
	}
	if path := c.String("cidfile"); path != "" {
		id, err := withCIDFile(path, func() (string, error) { return a.createOf(c, api, o, policy) })
		return id, o.Config, err
	}
	id, err := a.createOf(c, api, o, policy)
	return id, o.Config, err
}

// withCIDFile writes the id of what create makes to a file. The file is made
// first: the container would otherwise be left where it cannot be written.
func withCIDFile(path string, create func() (string, error)) (string, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return "", fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	case err != nil:
		return "", fmt.Errorf("cannot write the container's id: %w", err)
	}
	id, err := create()
	if err != nil {
		return "", errors.Join(err, f.Close(), os.Remove(path))
	}
	_, err = f.WriteString(id)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("cannot write the container's id: %w", err)
	}
	return id, nil
}

// createOf makes the container of a request, with its image.
func (a *app) createOf(c *cli.Context, api *client.Client, o client.ContainerCreateOptions, policy string) (string, error) {
	if policy == "always" {
		if err := a.fetchMissing(c, o.Config.Image, o.Platform); err != nil {
			return "", err
		}
	}
	made, err := api.ContainerCreate(c.Context, o)
	if errdefs.IsNotFound(err) && policy != "never" && policy != "always" && imageMissing(err) {
		if !c.Bool("quiet") {
			fmt.Fprintf(a.err, "Unable to find image '%s' locally\n", o.Config.Image)
		}
		if err := a.fetchMissing(c, o.Config.Image, o.Platform); err != nil {
			return "", err
		}
		made, err = api.ContainerCreate(c.Context, o)
	}
	if err != nil {
		return "", err
	}
	for _, w := range made.Warnings {
		fmt.Fprintln(a.err, "WARNING: "+w)
	}
	return made.ID, nil
}

// imageMissing says whether a fetch could help: there is no such image, or it is for another platform.
func imageMissing(err error) bool {
	return strings.Contains(err.Error(), "No such image") || strings.Contains(err.Error(), "does not match the specified platform")
}

func (a *app) create(c *cli.Context) error {
	id, _, err := a.makeContainer(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, id)
	return nil
}

func (a *app) runContainer(c *cli.Context) error {
	keys, err := a.detachKeys(c)
	if err != nil {
		return &status{exitCannotRun, message(err)}
	}
	id, cfg, err := a.makeContainer(c)
	switch {
	case errors.Is(err, errNoTerminal):
		return err
	case err != nil:
		return &status{exitCannotRun, message(err)}
	}
	if c.Bool("activate") { // by the first connection
		fmt.Fprintln(a.out, id)
		return nil
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	if !cfg.AttachStdin && !cfg.AttachStdout && !cfg.AttachStderr {
		if _, err := api.ContainerStart(c.Context, id, client.ContainerStartOptions{}); err != nil {
			return cannotRun(err)
		}
		fmt.Fprintln(a.out, id)
		return nil
	}
	return a.follow(c.Context, id, session{
		tty: cfg.Tty, stdin: cfg.AttachStdin, stdout: cfg.AttachStdout, stderr: cfg.AttachStderr,
		detachKeys: keys, proxy: c.Bool("sig-proxy") && !cfg.Tty, autoRemove: c.Bool("rm"), start: true, run: true,
	})
}

func (a *app) start(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	checkpoint := client.ContainerStartOptions{CheckpointID: c.String("checkpoint"), CheckpointDir: c.String("checkpoint-dir")}
	if !c.Bool("attach") && !c.Bool("interactive") {
		failed := a.eachFailing(c, func(ref string) error {
			_, err := api.ContainerStart(c.Context, ref, checkpoint)
			return err
		})
		if len(failed) == 0 {
			return nil
		}
		fmt.Fprintln(a.err, "Error: failed to start containers: "+strings.Join(failed, ", "))
		return &status{code: 1}
	}
	switch {
	case c.NArg() > 1:
		return &status{1, "only one container can be started and attached to at a time"}
	case checkpoint != client.ContainerStartOptions{}:
		return &status{1, "a container cannot be attached to while it starts from a checkpoint"}
	}
	keys, err := a.detachKeys(c)
	if err != nil {
		return err
	}
	got, err := api.ContainerInspect(c.Context, c.Args().First(), client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	in := got.Container
	return a.follow(c.Context, in.ID, session{
		tty: in.Config.Tty, stdin: c.Bool("interactive") && in.Config.OpenStdin, stdout: true, stderr: true,
		detachKeys: keys, proxy: c.Bool("sig-proxy") && !in.Config.Tty, autoRemove: in.HostConfig.AutoRemove, start: true,
	})
}

func (a *app) attach(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	keys, err := a.detachKeys(c)
	if err != nil {
		return err
	}
	got, err := api.ContainerInspect(c.Context, c.Args().First(), client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	in := got.Container
	switch {
	case in.State == nil || !in.State.Running:
		return &status{1, "cannot attach to a stopped container, start it first"}
	case in.State.Paused:
		return &status{1, "cannot attach to a paused container, unpause it first"}
	case in.State.Restarting:
		return &status{1, "cannot attach to a restarting container, wait until it is running"}
	}
	return a.follow(c.Context, in.ID, session{
		tty: in.Config.Tty, stdin: !c.Bool("no-stdin") && in.Config.OpenStdin, stdout: true, stderr: true,
		detachKeys: keys, proxy: c.Bool("sig-proxy") && !in.Config.Tty,
	})
}

// cannotRun gives a failed start the exit code that a shell would: 127 for a
// missing program, 126 for one that cannot be run.
func cannotRun(err error) error {
	text := message(err)
	code := exitCannotRun
	for words, n := range map[string]int{
		"executable file not found": 127, "no such file or directory": 127,
		"permission denied": 126, "is a directory": 126,
	} {
		if strings.Contains(text, words) {
			code = n
		}
	}
	return &status{code, text}
}
