package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/docker/go-units"
	"github.com/moby/go-archive"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

// copying is one run of cp; as docker's client does, it renames on this side
// what is to have another name.
type copying struct {
	*app
	api       *client.Client
	container string
	follow    bool
	owned     bool
	quiet     bool
	total     atomic.Int64
}

func (a *app) cp(c *cli.Context) error {
	source, target := c.Args().Get(0), c.Args().Get(1)
	if source == "" || target == "" {
		return &status{1, "source and destination cannot be empty"}
	}
	from, source := splitCopy(source)
	to, target := splitCopy(target)
	api, err := a.api()
	if err != nil {
		return err
	}
	k := &copying{app: a, api: api, container: from + to, follow: c.Bool("follow-link"), owned: c.Bool("archive"), quiet: c.Bool("quiet")}
	// go-archive logs that nobody reads the archive it makes, beside the reason that is returned.
	if err := log.SetLevel("panic"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	switch {
	case from != "" && to != "":
		return &status{1, "copying between containers is not supported: copy out of the one and into the other, with - in a pipe"}
	case from != "":
		err = k.out(ctx, source, target)
	case to != "":
		err = k.in(ctx, source, target)
	default:
		return &status{1, "must specify at least one container source"}
	}
	if err != nil && ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// splitCopy parts CONTAINER:PATH. A file with a colon is told by a leading / or dot.
func splitCopy(arg string) (container, path string) {
	container, path, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	return container, path
}

func local(path string) (string, error) {
	abs, err := filepath.Abs(path)
	return archive.PreserveTrailingDotOrSeparator(abs, path), err
}

// landing is where a link in the container leads to.
func landing(path, link string) string {
	if filepath.IsAbs(link) {
		return link
	}
	dir, _ := archive.SplitPathDirEntry(path)
	return filepath.Join(dir, link)
}

func (k *copying) out(ctx context.Context, source, target string) (err error) {
	if target == "-" && isTerminal(k.app.out) {
		return &status{1, "cannot write an archive to a terminal: use >FILE"}
	}
	if target != "-" {
		if target, err = local(target); err != nil {
			return err
		}
		if err := outputPath(target); err != nil {
			return err
		}
	}
	info := archive.CopyInfo{Path: source, Exists: true}
	if k.follow {
		st, err := k.api.ContainerStatPath(ctx, k.container, client.ContainerStatPathOptions{Path: source})
		if err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
			info.Path, info.RebaseName = archive.GetRebaseName(source, landing(source, st.Stat.LinkTarget))
		}
	}
	got, err := k.api.CopyFromContainer(ctx, k.container, client.CopyFromContainerOptions{SourcePath: info.Path})
	if err != nil {
		return err
	}
	defer got.Content.Close()
	if target == "-" {
		_, err = io.Copy(k.app.out, got.Content)
		return err
	}
	info.IsDir = got.Stat.Mode.IsDir()
	var content io.ReadCloser = &counted{got.Content, &k.total}
	if info.RebaseName != "" {
		_, base := archive.SplitPathDirEntry(info.Path)
		content = archive.RebaseArchiveEntries(content, base, info.RebaseName)
		defer content.Close()
	}
	if err := archive.CopyTo(content, info, target); err != nil {
		return err
	}
	k.done(target)
	return nil
}

// outputPath says whether a local path can be written to.
func outputPath(path string) error {
	dir := filepath.Dir(filepath.Clean(path))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mode := info.Mode(); !mode.IsDir() && !mode.IsRegular() {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file", path)
	}
	return nil
}

func (k *copying) in(ctx context.Context, source, target string) error {
	into := archive.CopyInfo{Path: target}
	st, err := k.api.ContainerStatPath(ctx, k.container, client.ContainerStatPathOptions{Path: target})
	if err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
		into.Path = landing(target, st.Stat.LinkTarget)
		st, err = k.api.ContainerStatPath(ctx, k.container, client.ContainerStatPathOptions{Path: into.Path})
	}
	if err == nil { // else its directory may be there, and the copy succeed all the same
		if mode := st.Stat.Mode; !mode.IsDir() && !mode.IsRegular() {
			return &status{1, fmt.Sprintf("destination \"%s:%s\" must be a directory or a regular file", k.container, target)}
		}
		into.Exists, into.IsDir = true, st.Stat.Mode.IsDir()
	} else if _, err := k.api.ContainerInspect(ctx, k.container, client.ContainerInspectOptions{}); err != nil {
		return err // the answer to a stat has no room for the reason
	}
	if source == "-" {
		if !into.IsDir && (err == nil || errdefs.IsNotFound(err)) { // else the answer to the copy tells
			return &status{1, fmt.Sprintf("destination \"%s:%s\" must be a directory", k.container, target)}
		}
		return k.send(ctx, into.Path, k.app.in)
	}
	if source, err = local(source); err != nil {
		return err
	}
	from, err := archive.CopyInfoSourcePath(source, k.follow)
	if err != nil {
		return err
	}
	tree, err := archive.TarResource(from)
	if err != nil {
		return err
	}
	defer tree.Close()
	dir, content, err := archive.PrepareArchiveCopy(tree, from, into)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := k.send(ctx, dir, &counted{content, &k.total}); err != nil {
		return err
	}
	k.done(k.container + ":" + into.Path)
	return nil
}

func (k *copying) send(ctx context.Context, dir string, content io.Reader) error {
	_, err := k.api.CopyToContainer(ctx, k.container, client.CopyToContainerOptions{DestinationPath: dir, Content: content, CopyUIDGID: k.owned})
	return err
}

// done tells how much went to where, on a terminal.
func (k *copying) done(where string) {
	if !k.quiet && isTerminal(k.app.out) {
		fmt.Fprintf(k.app.err, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(k.total.Load()), 3), where)
	}
}

// counted counts what goes through.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (a *app) diff(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ContainerDiff(c.Context, c.Args().First(), client.ContainerDiffOptions{})
	if err != nil {
		return err
	}
	for _, change := range got.Changes {
		fmt.Fprintln(a.out, change.Kind.String(), change.Path)
	}
	return nil
}
