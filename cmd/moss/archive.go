package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func (a *app) save(c *cli.Context) error {
	p, err := platforms(c)
	if err != nil {
		return err
	}
	var o []client.ImageSaveOption
	if p != nil {
		o = append(o, client.ImageSaveWithPlatforms(p...))
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.writeOut(c, func(ctx context.Context) (io.ReadCloser, error) {
		return api.ImageSave(ctx, c.Args().Slice(), o...)
	})
}

func (a *app) export(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.writeOut(c, func(ctx context.Context) (io.ReadCloser, error) {
		return api.ContainerExport(ctx, c.Args().First(), client.ContainerExportOptions{})
	})
}

// writeOut copies an archive to --output or to stdout. The file appears when it
// is whole; a failure or an interrupt leaves what was there before.
func (a *app) writeOut(c *cli.Context, open func(context.Context) (io.ReadCloser, error)) error {
	path := c.String("output")
	if path == "" && isTerminal(a.out) {
		return &status{1, "cannot write an archive to a terminal: use -o FILE or >FILE"}
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	err := copyOut(ctx, path, a.out, open)
	if err != nil && ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

func copyOut(ctx context.Context, path string, out io.Writer, open func(context.Context) (io.ReadCloser, error)) (err error) {
	if path != "" {
		f, err := newFile(path)
		if err != nil {
			return err
		}
		defer f.discard()
		r, err := open(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		if _, err := io.Copy(f, r); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		return f.keep()
	}
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(out, r)
	return err
}

// file is a file that is not there yet.
type file struct {
	*os.File
	path string
	temp bool // a file beside it that takes its place
}

// newFile begins a file. What is no file, /dev/stdout for example, is written
// to as it is.
func newFile(path string) (*file, error) {
	mode := fs.FileMode(0o666) // less the umask
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("cannot write %s: it is a directory", path)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &file{File: f, path: path}, err
	case err == nil:
		mode = info.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s-%d", filepath.Base(path), os.Getpid())), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return &file{File: f, path: path, temp: true}, nil
}

func (f *file) keep() error {
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot write %s: %w", f.path, err)
	}
	if !f.temp {
		return nil
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return fmt.Errorf("cannot write %s: %w", f.path, err)
	}
	f.temp = false
	return nil
}

func (f *file) discard() {
	_ = f.Close() // a second time, after keep
	if f.temp {
		_ = os.Remove(f.Name())
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) load(c *cli.Context) error {
	p, err := platforms(c)
	if err != nil {
		return err
	}
	o := []client.ImageLoadOption{client.ImageLoadWithQuiet(c.Bool("quiet") || !isTerminal(a.out))}
	if p != nil {
		o = append(o, client.ImageLoadWithPlatforms(p...))
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
	api, err := a.api()
	if err != nil {
		return err
	}
	r, err := api.ImageLoad(c.Context, in, o...)
	if err != nil {
		return err
	}
	return a.progress(r, a.out)
}

func (a *app) imports(c *cli.Context) error {
	o := client.ImageImportOptions{Message: c.String("message"), Changes: c.StringSlice("change")}
	p, err := platform(c)
	if err != nil {
		return err
	}
	if p != nil {
		o.Platform = *p
	}
	from := client.ImageImportSource{SourceName: c.Args().First()}
	if !strings.HasPrefix(from.SourceName, "http://") && !strings.HasPrefix(from.SourceName, "https://") {
		in := a.in
		if from.SourceName != "-" {
			if in, err = os.Open(from.SourceName); err != nil {
				return err
			}
			defer in.Close()
		}
		from = client.ImageImportSource{Source: in, SourceName: "-"}
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	r, err := api.ImageImport(c.Context, from, c.Args().Get(1), o)
	if err != nil {
		return err
	}
	return a.progress(r, a.out)
}

func (a *app) commit(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ContainerCommit(c.Context, c.Args().First(), client.ContainerCommitOptions{
		Reference: c.Args().Get(1), Comment: c.String("message"), Author: c.String("author"), Changes: c.StringSlice("change"),
		NoPause: c.Bool("no-pause") || !c.Bool("pause"),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, got.ID)
	return nil
}
