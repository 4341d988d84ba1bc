package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

const none = "<none>"

var imageColumns = []column{
	{"ID", "IMAGE ID"},
	{"Repository", "REPOSITORY"},
	{"Tag", "TAG"},
	{"Digest", "DIGEST"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"Size", "SIZE"},
	{"SharedSize", "SHARED SIZE"},
	{"UniqueSize", "UNIQUE SIZE"},
	{"VirtualSize", "SIZE"},
	{"Containers", "CONTAINERS"},
}

const (
	imageTable       = `{{.Repository}}	{{.Tag}}	{{.ID}}	{{.CreatedSince}}	{{.Size}}`
	imageDigestTable = `{{.Repository}}	{{.Tag}}	{{.Digest}}	{{.ID}}	{{.CreatedSince}}	{{.Size}}`
)

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
	format, plain := c.String("format"), imageTable
	if c.Bool("digests") {
		plain = imageDigestTable
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	defer collectLess()()
	list, err := api.ImageList(c.Context, client.ImageListOptions{
		All: c.Bool("all"), Filters: f,
		SharedSize: format == "json" || strings.Contains(format, "SharedSize") || strings.Contains(format, "UniqueSize"),
	})
	if err != nil {
		return err
	}
	digests := c.Bool("digests") || strings.Contains(format, ".Digest")
	rows := imageRows(list.Items, digests, !c.Bool("no-trunc"), time.Now())
	return printRows(a.out, format, plain, imageColumns, rows)
}

func imageRows(list []image.Summary, digests, cut bool, now time.Time) []map[string]string {
	var rows []map[string]string
	for _, i := range list {
		for _, n := range rowNames(i, digests) {
			row := imageSizes(i)
			row["Repository"], row["Tag"], row["Digest"] = n.repository, n.tag, n.digest
			row["ID"] = shortID(i.ID, cut)
			row["CreatedSince"], row["CreatedAt"] = ago(i.Created, now), time.Unix(i.Created, 0).String()
			rows = append(rows, row)
		}
	}
	return rows
}

func imageSizes(i image.Summary) map[string]string {
	known := func(n int64, text string) string {
		if n < 0 {
			return "N/A"
		}
		return text
	}
	size := units.HumanSizeWithPrecision(float64(i.Size), 3)
	return map[string]string{
		"Size": size, "VirtualSize": size,
		"SharedSize": known(i.SharedSize, units.HumanSize(float64(i.SharedSize))),
		"UniqueSize": known(i.SharedSize, units.HumanSize(float64(i.Size-i.SharedSize))),
		"Containers": known(i.Containers, strconv.FormatInt(i.Containers, 10)),
	}
}

// rowName is what one row calls an image.
type rowName struct{ repository, tag, digest string }

// rowNames are an image's names, a row each: its tags, with each digest of
// their repository where digests are shown, then digests of repositories
// without a tag.
func rowNames(i image.Summary, digests bool) []rowName {
	of := make(map[string][]string)
	var untagged []string
	for _, d := range i.RepoDigests {
		name, digest, _ := strings.Cut(d, "@")
		if name = familiar(name); name == none {
			continue
		}
		if of[name] == nil {
			untagged = append(untagged, name)
		}
		of[name] = append(of[name], digest)
	}
	var rows []rowName
	add := func(repository, tag string) {
		if !digests || len(of[repository]) == 0 {
			rows = append(rows, rowName{repository, tag, none})
			return
		}
		for _, d := range of[repository] {
			rows = append(rows, rowName{repository, tag, d})
		}
	}
	for _, t := range i.RepoTags {
		at := strings.LastIndex(t, ":")
		if at < 0 || t == none+":"+none {
			continue
		}
		name := familiar(t[:at])
		add(name, t[at+1:])
		untagged = slices.DeleteFunc(untagged, func(u string) bool { return u == name })
	}
	for _, name := range untagged {
		add(name, none)
	}
	if len(rows) == 0 {
		rows = append(rows, rowName{none, none, none})
	}
	return rows
}

// familiar is a repository's short name: busybox, not docker.io/library/busybox.
func familiar(name string) string {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(n)
}

func shortID(id string, cut bool) string {
	if !cut {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// ago tells how long ago a Unix time was, N/A where it was never.
func ago(created int64, now time.Time) string {
	if created <= 0 {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(time.Unix(created, 0))) + " ago"
}
