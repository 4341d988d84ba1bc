package main

import (
	"strings"
	"testing"
)

// Rows are the same whether a template is taken apart or executed.
func TestPiecesAreTheTemplate(t *testing.T) {
	rows := []map[string]string{
		addLabels(map[string]string{"ID": "a<b>&\"", "Names": "héé"}, map[string]string{"k": "v"}),
		addLabels(map[string]string{"ID": "", "Names": "{{.ID}}"}, nil),
	}
	for format, plain := range map[string]bool{
		"{{.ID}}":                            true,
		"{{.ID}}\t{{ .Names }}":              true,
		"x {{- .ID -}} y {{.Labels}}":        true,
		"nothing of it":                      true,
		"{{/* said to nobody */}}{{.Names}}": true,
		`{{.Label "k"}}`:                     false,
		"{{upper .ID}}":                      false,
		"{{.ID | upper}}":                    false,
		"{{with .ID}}{{.}}{{end}}":           false,
		"{{$x := .ID}}{{$x}}":                false,
		"{{json .}}":                         false,
	} {
		tmpl, err := parseTemplate(format + "\n")
		if err != nil {
			t.Fatal(err)
		}
		if _, got := piecesOf(tmpl); got != plain {
			t.Errorf("%s: taken apart is %v", format, got)
		}
		var got, want strings.Builder
		if err := execute(tmpl, &got, rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if err := tmpl.Execute(&want, row(r)); err != nil {
				t.Fatal(err)
			}
		}
		if got.String() != want.String() {
			t.Errorf("%s: %q, want %q", format, got.String(), want.String())
		}
	}
	tmpl, err := parseTemplate("{{.ID}} {{.Nope}}")
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(tmpl, new(strings.Builder), rows); err == nil || !strings.Contains(err.Error(), "Nope") {
		t.Errorf("a field that is not there: %v", err)
	}
}
