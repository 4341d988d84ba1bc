package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

var searchColumns = []column{
	{"Name", "NAME"},
	{"Description", "DESCRIPTION"},
	{"StarCount", "STARS"},
	{"IsOfficial", "OFFICIAL"},
	{"IsAutomated", "AUTOMATED"},
}

func (a *app) search(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	auth, err := a.searchAuth(c.Args().First())
	if err != nil {
		return err
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ImageSearch(c.Context, c.Args().First(), client.ImageSearchOptions{RegistryAuth: auth, Filters: f, Limit: c.Int("limit")})
	if err != nil {
		return err
	}
	slices.SortStableFunc(got.Items, func(a, b registry.SearchResult) int { return cmp.Compare(b.StarCount, a.StarCount) })
	rows := make([]map[string]string, len(got.Items))
	for i, r := range got.Items {
		rows[i] = searchRow(r, !c.Bool("no-trunc"))
	}
	return printRows(a.out, c.String("format"), `{{.Name}}	{{.Description}}	{{.StarCount}}	{{.IsOfficial}}`, searchColumns, rows)
}

// searchAuth is the header for the registry that a term may begin with.
func (a *app) searchAuth(term string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(strings.ToLower(term))
	if err != nil {
		return "", fmt.Errorf("cannot search for %q: %w", term, err)
	}
	return a.authFor(ref)
}

func searchRow(r registry.SearchResult, cut bool) map[string]string {
	text := strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(r.Description)
	if cut {
		text = ellipsis(text, 45)
	}
	ok := func(yes bool) string {
		if yes {
			return "[OK]"
		}
		return ""
	}
	return map[string]string{
		"Name": r.Name, "Description": text, "StarCount": strconv.Itoa(r.StarCount),
		"IsOfficial": ok(r.IsOfficial), "IsAutomated": ok(r.IsAutomated), //nolint:staticcheck // docker's templates still have it
	}
}
