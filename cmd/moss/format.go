package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"text/template/parse"

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
	out := bufio.NewWriterSize(w, 32<<10) // the rest writes each cell for itself
	if !table {
		return errors.Join(execute(t, out, rows), out.Flush())
	}
	headings := map[string]string{headingKey: ""}
	for _, c := range columns {
		headings[c.name] = c.heading
	}
	tab := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	if err := execute(t, tab, append([]map[string]string{headings}, rows...)); err != nil {
		return err
	}
	return errors.Join(tab.Flush(), out.Flush())
}

func execute(t *template.Template, w io.Writer, rows []map[string]string) error {
	pieces, plain := piecesOf(t)
	var line []byte
	for _, r := range rows {
		if plain {
			var whole bool
			if line, whole = appendPieces(line[:0], pieces, r); whole {
				if _, err := w.Write(line); err != nil {
					return err
				}
				continue
			}
		}
		if err := t.Execute(w, row(r)); err != nil {
			return &status{1, "template execution error: " + err.Error()}
		}
	}
	return nil
}

// piece is text, or a field's value.
type piece struct{ text, field string }

// piecesOf takes a template apart that has nothing but text and fields, as those of
// all the tables: a thousand rows take a template longer than all else.
func piecesOf(t *template.Template) (list []piece, plain bool) {
	for _, n := range t.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			list = append(list, piece{text: string(n.Text)})
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
				return nil, false
			}
			f, ok := n.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
			if !ok || len(f.Ident) != 1 {
				return nil, false
			}
			list = append(list, piece{field: f.Ident[0]})
		default:
			return nil, false
		}
	}
	return list, true
}

// appendPieces is false for a row without one of the fields: of that the template has more to say.
func appendPieces(line []byte, list []piece, r map[string]string) (_ []byte, whole bool) {
	for _, p := range list {
		if p.field == "" {
			line = append(line, p.text...)
			continue
		}
		value, ok := r[p.field]
		if !ok {
			return line, false
		}
		line = append(line, value...)
	}
	return line, true
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
