package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/urfave/cli/v2"
)

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""}
}

// listFlags are the flags that every list has.
func listFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those for which `KEY=VALUE` holds"},
		&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
		&cli.BoolFlag{Name: "no-trunc", Usage: "do not cut anything short"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only ids"},
	}, more...)
}

// functions are those of docker's templates.
var functions = template.FuncMap{
	"json":     toJSON,
	"join":     strings.Join,
	"split":    strings.Split,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"println":  fmt.Sprintln,
	"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimRight(b.String(), "\n"), err
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, &status{64, "template parsing error: " + err.Error()}
	}
	return t, nil
}

// row is what templates see of a line of a list. Keys that begin with a zero byte are
// no fields: single labels, and the mark of the row of headings.
type row map[string]string

const (
	labelKey   = "\x00label "
	headingKey = "\x00heading"
)

// Label is {{.Label "key"}}: one label's value, and its heading the last word of the key.
func (r row) Label(key string) string {
	if _, ok := r[headingKey]; ok {
		return strings.NewReplacer("-", " ", "_", " ").Replace(key[strings.LastIndexByte(key, '.')+1:])
	}
	return r[labelKey+key]
}

// MarshalJSON has the fields alone.
func (r row) MarshalJSON() ([]byte, error) {
	fields := make(map[string]string, len(r))
	for k, v := range r {
		if !strings.HasPrefix(k, "\x00") {
			fields[k] = v
		}
	}
	text, err := toJSON(fields)
	return []byte(text), err
}

// addLabels gives a row its labels, in one field and each for itself.
func addLabels(r, labels map[string]string) map[string]string {
	all := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, k+"="+labels[k])
		r[labelKey+k] = labels[k]
	}
	r["Labels"] = strings.Join(all, ",")
	return r
}

// column is one field of a list: its name in templates and its heading.
type column struct{ name, heading string }

// printRows prints rows in the given format; plain is the default table's.
func printRows(w io.Writer, format, plain string, columns []column, rows []map[string]string) error {
	if format == "json" {
		for _, r := range rows {
			text, err := toJSON(row(r))
			if err != nil {
				return err
			}
			fmt.Fprintln(w, text)
		}
		return nil
	}
	if format == "" || format == "table" {
		format = "table " + plain
	}
	text, table := strings.CutPrefix(format, "table ")
	t, err := parseTemplate(unescape(text) + "\n")
	if err != nil {
		return err
	}
	if !table {
		return execute(t, w, rows)
	}
	headings := map[string]string{headingKey: ""}
	for _, c := range columns {
		headings[c.name] = c.heading
	}
	tab := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	if err := execute(t, tab, append([]map[string]string{headings}, rows...)); err != nil {
		return err
	}
	return tab.Flush()
}

func execute(t *template.Template, w io.Writer, rows []map[string]string) error {
	for _, r := range rows {
		if err := t.Execute(w, row(r)); err != nil {
			return &status{1, "template execution error: " + err.Error()}
		}
	}
	return nil
}

// unescape turns the \t and \n that shells leave alone into tabs and line ends.
func unescape(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s)
}

// printOne prints one thing by a template, or as indented JSON.
func printOne(w io.Writer, format string, v any) error {
	if format == "" || format == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		if format == "" {
			e.SetIndent("", "    ")
		}
		return e.Encode(v)
	}
	t, err := parseTemplate(unescape(format) + "\n")
	if err != nil {
		return err
	}
	if err := t.Execute(w, v); err != nil {
		return &status{1, "template execution error: " + err.Error()}
	}
	return nil
}
