package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// swaggerTable is what swaggerOperations makes of moby's swagger.yaml, checked
// in because the module cache is out of reach where tests run in a rig.
// `go test ./pkg/api -run TestSwaggerTable -update` makes it anew.
const swaggerTable = "testdata/swagger.json"

// swagger is the table: an API version and its operations.
type swagger struct {
	Version    string      `json:"version"`
	Operations []operation `json:"operations"`
}

// operation is one path and method. A schema is the name of a JSON type, a
// list with the schema of its items, or an object with those of its fields
// ("*" for any); "enum:" is before the values that a string may have.
type operation struct {
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Query    map[string]string `json:"query,omitempty"`
	Header   map[string]string `json:"header,omitempty"`
	Body     any               `json:"body,omitempty"`
	Consumes []string          `json:"consumes,omitempty"`
	Statuses []int             `json:"statuses"`
}

func readSwagger(t testing.TB) swagger {
	t.Helper()
	text, err := os.ReadFile(swaggerTable)
	if err != nil {
		t.Fatal(err)
	}
	var s swagger
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSwaggerTable holds the checked-in table against the swagger.yaml of the
// module in go.mod, where that can be read, and against our newest version.
func TestSwaggerTable(t *testing.T) {
	if dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output(); err == nil {
		if text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml")); err == nil {
			got, err := swaggerOperations(text)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(swaggerTable, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(swaggerTable)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not of moby's swagger.yaml any more: go test ./pkg/api -run TestSwaggerTable -update", swaggerTable)
			}
		}
	}
	if s := readSwagger(t); s.Version != MaxVersion || len(s.Operations) < 100 {
		t.Errorf("the table has %d operations of version %s, MaxVersion is %s", len(s.Operations), s.Version, MaxVersion)
	}
}

// swaggerOperations makes the table's text, a line an operation.
func swaggerOperations(text []byte) ([]byte, error) {
	var doc struct {
		Info        struct{ Version string }
		Paths       map[string]map[string]any
		Definitions map[string]any
		Responses   map[string]any
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	d := definitions(doc.Definitions)
	var all []operation
	for path, methods := range doc.Paths {
		for method, v := range methods {
			m, _ := v.(map[string]any)
			op := operation{Method: strings.ToUpper(method), Path: path, Query: map[string]string{}, Header: map[string]string{}}
			for _, p := range list(m["parameters"]) {
				name, kind := fmt.Sprint(p["name"]), fmt.Sprint(p["type"])
				if values, ok := p["enum"].([]any); ok {
					kind = enum(values)
				}
				switch p["in"] {
				case "query":
					op.Query[name] = kind
				case "header":
					op.Header[name] = kind
				case "body":
					op.Body = d.schema(p["schema"], 0)
				}
			}
			for _, c := range anys(m["consumes"]) {
				op.Consumes = append(op.Consumes, fmt.Sprint(c))
			}
			answers, _ := m["responses"].(map[string]any)
			for status := range answers {
				n, err := strconv.Atoi(status)
				if err != nil {
					return nil, fmt.Errorf("%s %s: the status %s", method, path, status)
				}
				op.Statuses = append(op.Statuses, n)
			}
			slices.Sort(op.Statuses)
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\"version\": %q, \"operations\": [\n", doc.Info.Version)
	for i, op := range all {
		line, err := json.Marshal(op)
		if err != nil {
			return nil, err
		}
		out.Write(line)
		if i < len(all)-1 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
	}
	out.WriteString("]}\n")
	return out.Bytes(), nil
}

type definitions map[string]any

// schema makes a schema short: references are followed, what is deeper than
// anything real is cut.
func (d definitions) schema(v any, depth int) any {
	m, _ := v.(map[string]any)
	if depth > 12 || m == nil {
		return "object"
	}
	if ref, ok := m["$ref"].(string); ok {
		return d.schema(d[strings.TrimPrefix(ref, "#/definitions/")], depth+1)
	}
	if parts, ok := m["allOf"].([]any); ok {
		all := map[string]any{}
		for _, p := range parts {
			if fields, ok := d.schema(p, depth+1).(map[string]any); ok {
				maps.Copy(all, fields)
			}
		}
		return all
	}
	if fields, ok := m["properties"].(map[string]any); ok {
		out := map[string]any{}
		for name, f := range fields {
			out[name] = d.schema(f, depth+1)
		}
		return out
	}
	if more, ok := m["additionalProperties"].(map[string]any); ok {
		return map[string]any{"*": d.schema(more, depth+1)}
	}
	if items, ok := m["items"]; ok {
		return []any{d.schema(items, depth+1)}
	}
	if values, ok := m["enum"].([]any); ok {
		return enum(values)
	}
	if kind, ok := m["type"].(string); ok {
		return kind
	}
	return "object"
}

func enum(values []any) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprint(v))
	}
	return "enum:" + strings.Join(all, "|")
}

func anys(v any) []any { all, _ := v.([]any); return all }

func list(v any) (all []map[string]any) {
	for _, one := range anys(v) {
		if m, ok := one.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}
