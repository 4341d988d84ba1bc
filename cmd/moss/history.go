package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/urfave/cli/v2"
)

var historyColumns = []column{
	{"ID", "IMAGE"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"CreatedBy", "CREATED BY"},
	{"Size", "SIZE"},
	{"Comment", "COMMENT"},
}

func (a *app) history(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ImageHistory(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	rows := make([]map[string]string, len(got.Items))
	for i, h := range got.Items {
		rows[i] = historyRow(h, c.Bool("human"), !c.Bool("no-trunc"), time.Now())
	}
	format, plain := c.String("format"), `{{.ID}}	{{.CreatedSince}}	{{.CreatedBy}}	{{.Size}}	{{.Comment}}`
	if !c.Bool("human") {
		plain = `{{.ID}}	{{.CreatedAt}}	{{.CreatedBy}}	{{.Size}}	{{.Comment}}`
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return printRows(a.out, format, plain, historyColumns, rows)
}

func historyRow(h image.HistoryResponseItem, human, cut bool, now time.Time) map[string]string {
	by := strings.ReplaceAll(h.CreatedBy, "\t", " ")
	if cut {
		by = ellipsis(by, 45)
	}
	at, size := "", strconv.FormatInt(h.Size, 10)
	if h.Created > 0 {
		at = time.Unix(h.Created, 0).Format(time.RFC3339)
	}
	since := at
	if human {
		since, size = ago(h.Created, now), units.HumanSizeWithPrecision(float64(h.Size), 3)
	}
	return map[string]string{
		"ID": shortID(h.ID, cut), "CreatedSince": since, "CreatedAt": at, "CreatedBy": by, "Size": size, "Comment": h.Comment,
	}
}
