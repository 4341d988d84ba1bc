package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/jsonmessage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/moss"
)

func (a *app) pull(c *cli.Context) error {
	ref, err := a.wanted(c)
	if err != nil {
		return err
	}
	p, err := platforms(c)
	if err != nil {
		return err
	}
	out := a.out
	if c.Bool("quiet") {
		out = io.Discard
	}
	if err := a.fetch(c.Context, ref, client.ImagePullOptions{All: c.Bool("all-tags"), Platforms: p}, out); err != nil {
		return err
	}
	fmt.Fprintln(a.out, ref.String())
	return nil
}

func (a *app) push(c *cli.Context) error {
	ref, err := a.wanted(c)
	if err != nil {
		return err
	}
	p, err := platform(c)
	if err != nil {
		return err
	}
	auth, err := a.authFor(ref)
	if err != nil {
		return err
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	r, err := api.ImagePush(c.Context, ref.String(), client.ImagePushOptions{All: c.Bool("all-tags"), RegistryAuth: auth, Platform: p})
	if err != nil {
		return wayIn(err, ref)
	}
	if !c.Bool("quiet") {
		return wayIn(a.progress(r, a.out), ref)
	}
	if err := a.progress(r, io.Discard); err != nil {
		return wayIn(err, ref)
	}
	fmt.Fprintln(a.out, ref.String())
	return nil
}

// wayIn adds to a registry's refusal what may help.
func wayIn(err error, ref reference.Named) error {
	if err == nil || !strings.Contains(err.Error(), "unauthorized") && !strings.Contains(err.Error(), "denied") {
		return err
	}
	server := ""
	if d := reference.Domain(ref); d != "docker.io" {
		server = " " + d
	}
	return fmt.Errorf("%w\nit may need a login: moss login%s", err, server)
}

// wanted is the image that the argument of pull or push names.
func (a *app) wanted(c *cli.Context) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(c.Args().First())
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot use the name %q: %w", c.Args().First(), err)
	case c.Bool("all-tags") && !reference.IsNameOnly(ref):
		return nil, errors.New("tag can't be used with --all-tags/-a")
	case c.Bool("all-tags"):
		return ref, nil
	case reference.IsNameOnly(ref):
		if !c.Bool("quiet") {
			fmt.Fprintln(a.out, "Using default tag: latest")
		}
		return reference.TagNameOnly(ref), nil
	}
	return ref, nil
}

// fetch asks the engine for an image and shows how it goes.
func (a *app) fetch(ctx context.Context, ref reference.Named, o client.ImagePullOptions, out io.Writer) error {
	auth, err := a.authFor(ref)
	if err != nil {
		return err
	}
	o.RegistryAuth = auth
	api, err := a.api()
	if err != nil {
		return err
	}
	r, err := api.ImagePull(ctx, ref.String(), o)
	if err != nil {
		return wayIn(err, ref)
	}
	return wayIn(a.progress(r, out), ref)
}

// fetchMissing fetches what run and create found missing, or are told to fetch
// always; the progress is no part of their output.
func (a *app) fetchMissing(c *cli.Context, image string, p *ocispec.Platform) error {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("cannot use the name %q: %w", image, err)
	}
	out := a.err
	if c.Bool("quiet") {
		out = io.Discard
	}
	var o client.ImagePullOptions
	if p != nil {
		o.Platforms = []ocispec.Platform{*p}
	}
	return a.fetch(c.Context, reference.TagNameOnly(ref), o, out)
}

// progress shows the engine's messages: bars that move on a terminal, a line
// for each change elsewhere. The error among them is returned.
func (a *app) progress(r io.ReadCloser, out io.Writer) error {
	defer r.Close()
	return jsonmessage.DisplayMessages(progressOf(r), out)
}

// progressOf reads the engine's messages and leaves out those that tell nothing new.
func progressOf(r io.Reader) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		told := make(map[string]string) // the last line of each layer
		for d := json.NewDecoder(r); ; {
			var m jsonstream.Message
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(m, fmt.Errorf("cannot read the engine's progress: %w", err))
				return
			}
			plain(&m)
			if m.ID != "" && m.Error == nil && m.Stream == "" && (m.Progress == nil || *m.Progress == jsonstream.Progress{}) {
				if told[m.ID] == m.Status {
					continue // no change
				}
				told[m.ID] = m.Status
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// plain makes of a message one that may go to a terminal. What it tells may come from a registry or
// an archive, and a bar of less than nothing cannot be drawn.
func plain(m *jsonstream.Message) {
	replace := func(s, but string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) && !strings.ContainsRune(but, r) {
				return unicode.ReplacementChar
			}
			return r
		}, s)
	}
	m.ID, m.Status, m.Stream = replace(m.ID, ""), replace(m.Status, "\t\n"), replace(strings.ReplaceAll(m.Stream, "\r\n", "\n"), "\t\n")
	if p := m.Progress; p != nil {
		p.Current, p.Total, p.Start, p.Units = max(p.Current, 0), max(p.Total, 0), max(p.Start, 0), replace(p.Units, "")
		m.Status = replace(m.Status, "") // the bars' lines are counted
	}
	if e := m.Error; e != nil {
		if e.Message = moss.Shown(e.Message); e.Message == "" {
			e.Message = fmt.Sprintf("the engine has failed with code %d and says no more", e.Code)
		}
	}
}
