package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
)

var update = flag.Bool("update", false, "write the tables of the documentation anew")

// TestTables compares the tables that the code knows better than a writer:
// each stands between <!-- table NAME --> and <!-- end -->.
func TestTables(t *testing.T) {
	for _, c := range []struct {
		page, name string
		make       func(*testing.T) string
	}{
		{"docs/reference.md", "commands", commandTables},
		{"docs/reference.md", "routes", routeTable},
		{"docs/reference.md", "refused routes", refusedTable},
		{"docs/ARCHITECTURE.md", "packages", packageTable},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.make(t)
			text := read(t, c.page)
			begin, end := "<!-- table "+c.name+" -->\n", "\n<!-- end -->"
			before, rest, ok := strings.Cut(text, begin)
			have, after, ok2 := strings.Cut(rest, end)
			if !ok || !ok2 {
				t.Fatalf("%s has no table %q", c.page, c.name)
			}
			if have == want {
				return
			}
			if !*update {
				t.Fatalf("the table %q of %s is not what the code says; write it anew with: go test ./tests/docs -run TestTables -update\n%s", c.name, c.page, firstDifference(have, want))
			}
			if err := os.WriteFile(filepath.Join(root, c.page), []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func firstDifference(have, want string) string {
	a, b := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(nothing)", "(nothing)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return "the page: " + x + "\nthe code: " + y
		}
	}
	return ""
}

// cell makes text fit into a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func commandTables(t *testing.T) string {
	var b strings.Builder
	var run help
	var told []help
	for _, name := range commandNames(t) {
		h := helpOf(t, name)
		switch {
		case name == "run":
			run = h
		case len(h.commands) > 0:
			groupTables(t, &b, h, name, told)
			continue
		case 2*len(h.flags) > len(run.flags) && subset(h.flags, run.flags):
			var not []string
			for _, f := range run.flags {
				if !slices.Contains(h.flags, f) {
					not = append(not, "`"+strings.TrimSpace(f.names()[0])+"`")
				}
			}
			fmt.Fprintf(&b, "### %s\n\n`%s`: %s.\n\nThe flags of `moss run` without %s.\n\n", h.name, h.usage, h.use, strings.Join(not, " and "))
			told = append(told, h)
			continue
		}
		told = append(told, h)
		commandTable(&b, "###", h)
	}
	return strings.TrimRight(b.String(), "\n")
}

func commandTable(b *strings.Builder, level string, h help) {
	fmt.Fprintf(b, "%s %s\n\n`%s`: %s.\n\n", level, h.name, h.usage, h.use)
	if len(h.flags) == 0 {
		return
	}
	b.WriteString("| flag | |\n|---|---|\n")
	for _, f := range h.flags {
		fmt.Fprintf(b, "| `%s` | %s |\n", cell(f.spelling), cell(f.text))
	}
	b.WriteString("\n")
}

// groupTables tells of a group: most of its members are commands that have
// been told of under another name.
func groupTables(t *testing.T, b *strings.Builder, group help, name string, told []help) {
	t.Helper()
	fmt.Fprintf(b, "### %s\n\n%s: %s.\n\n| command | |\n|---|---|\n", group.name, "`"+group.name+" COMMAND`", group.use)
	var own []help
	for _, member := range group.commands {
		h := helpOf(t, name, member)
		h.name = group.name + " " + member
		i := slices.IndexFunc(told, func(o help) bool { return o.use == h.use && slices.Equal(o.flags, h.flags) })
		if i >= 0 {
			fmt.Fprintf(b, "| `%s` | the same as `%s` |\n", h.name, told[i].name)
			continue
		}
		fmt.Fprintf(b, "| `%s` | see below |\n", h.name)
		own = append(own, h)
	}
	b.WriteString("\n")
	for _, h := range own {
		commandTable(b, "####", h)
	}
}

func subset(some, all []flagLine) bool {
	return !slices.ContainsFunc(some, func(f flagLine) bool { return !slices.Contains(all, f) })
}

// row is a row of pkg/api's table of routes.
type row struct {
	method, path, since string
	handler             string // name of the function
	what, instead       string // of no(what, instead)
}

// apiRoutes reads the table in pkg/api/routes.go.
func apiRoutes(t *testing.T) []row {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "pkg/api/routes.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || lit.Type != nil || len(lit.Elts) != 4 {
			return true
		}
		method, ok := lit.Elts[0].(*ast.Ident)
		if !ok {
			return true
		}
		r := row{method: strings.ToUpper(method.Name), path: literal(t, lit.Elts[1]), since: "1.24"}
		if r.method == "DEL" {
			r.method = "DELETE"
		}
		if call, ok := lit.Elts[2].(*ast.CallExpr); ok {
			r.since = "1." + call.Args[0].(*ast.BasicLit).Value
		}
		switch h := lit.Elts[3].(type) {
		case *ast.SelectorExpr:
			r.handler = h.Sel.Name
		case *ast.Ident:
			r.handler = h.Name
		case *ast.CallExpr:
			r.handler = "no"
			r.what, r.instead = literal(t, h.Args[0]), literal(t, h.Args[1])
		default:
			t.Fatalf("cannot read the handler of %s", r.path)
		}
		rows = append(rows, r)
		return false
	})
	if len(rows) < 80 {
		t.Fatalf("only %d routes found", len(rows))
	}
	return rows
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("a string is wanted, not %T", e)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r row) done() bool {
	return r.handler != "no" && r.handler != "noSwarm" && r.handler != "noManagedPlugins"
}

func routeTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| route | since |\n|---|---|\n")
	for _, r := range apiRoutes(t) {
		if r.done() {
			fmt.Fprintf(&b, "| `%s %s` | %s |\n", r.method, r.path, r.since)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func refusedTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| route | answer |\n|---|---|\n")
	for _, r := range apiRoutes(t) {
		answer := "501: moss does not " + r.what + " yet: " + r.instead
		switch r.handler {
		case "noSwarm":
			answer = "503, as docker answers outside a swarm"
		case "noManagedPlugins":
			answer = "501, and how to have a plugin found by its socket"
		}
		if !r.done() {
			fmt.Fprintf(&b, "| `%s %s` | %s |\n", r.method, r.path, cell(answer))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// law is a law of tests/arch: what a directory may import of ours, and why no
// more.
type law struct {
	may []string
	why string
}

// laws reads tests/arch; doors are the foreign libraries by the directory that
// alone may import them.
func laws(t *testing.T) (byDir map[string]law, doors map[string][]string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "tests/arch/arch_test.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	consts := map[string]string{}
	text := func(e ast.Expr) string {
		if id, ok := e.(*ast.Ident); ok {
			return consts[id.Name]
		}
		return literal(t, e)
	}
	list := func(e ast.Expr) (all []string) {
		lit, ok := e.(*ast.CompositeLit)
		if !ok {
			return nil // the identifier nil
		}
		for _, s := range lit.Elts {
			all = append(all, literal(t, s))
		}
		return all
	}
	byDir, doors = map[string]law{}, map[string][]string{}
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Values) == 0 {
				continue
			}
			if gen.Tok == token.CONST {
				for i, n := range v.Names {
					consts[n.Name] = literal(t, v.Values[i])
				}
				continue
			}
			lit, ok := v.Values[0].(*ast.CompositeLit)
			if !ok {
				continue
			}
			for _, e := range lit.Elts {
				switch v.Names[0].Name {
				case "laws":
					kv := e.(*ast.KeyValueExpr)
					l := kv.Value.(*ast.CompositeLit)
					byDir[literal(t, kv.Key)] = law{list(l.Elts[0]), text(l.Elts[1])}
				case "doors":
					l := e.(*ast.CompositeLit)
					for _, in := range list(l.Elts[1]) {
						doors[in] = append(doors[in], literal(t, l.Elts[0]))
					}
				}
			}
		}
	}
	if len(byDir) < 15 || len(doors) < 8 {
		t.Fatalf("only %d laws and %d doors found", len(byDir), len(doors))
	}
	return byDir, doors
}

func packageTable(t *testing.T) string {
	byDir, doors := laws(t)
	var b strings.Builder
	b.WriteString("| package | job | may import, of ours | because | the only door to |\n|---|---|---|---|---|\n")
	for _, dir := range packageDirs(t) {
		may, why := "no law yet", "–"
		for d := dir; d != "."; d = path.Dir(d) {
			if l, ok := byDir[d]; ok {
				may, why = code(l.may), l.why
				break
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", dir, cell(synopsis(t, dir)), may, why, code(doors[dir]))
	}
	return strings.TrimRight(b.String(), "\n")
}

func code(names []string) string {
	if len(names) == 0 {
		return "–"
	}
	if slices.Equal(names, []string{"*"}) {
		return "everything"
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + strings.TrimPrefix(n, "github.com/") + "`"
	}
	return strings.Join(quoted, ", ")
}

// packageDirs are the directories that hold Go files, without test data.
func packageDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for _, top := range []string{"cmd", "pkg", "rootless", "systemd-units", "userns", "tests"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, filepath.Dir(p))
			if err != nil {
				return err
			}
			if strings.HasSuffix(p, ".go") && !slices.Contains(dirs, rel) && !strings.Contains(p, "testdata") {
				dirs = append(dirs, filepath.ToSlash(rel))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

var packageWords = regexp.MustCompile(`^(Package|Command) \S+ (is )?`)

// synopsis is the first sentence of the package's comment.
func synopsis(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil && packageWords.MatchString(f.Doc.Text()) {
			s := new(doc.Package).Synopsis(f.Doc.Text())
			return strings.TrimSuffix(packageWords.ReplaceAllString(s, ""), ".")
		}
	}
	return ""
}

// TestSettings: the reference has a row for every key of daemon.json, and no
// other, with the default that the code has.
func TestSettings(t *testing.T) {
	defaults, err := config.Default("", func(name string) string {
		return map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "~"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(read(t, "docs/reference.md"), "## daemon.json\n")
	section, _, ok2 := strings.Cut(section, "\n## ")
	if !ok || !ok2 {
		t.Fatal("docs/reference.md has no section daemon.json")
	}
	have := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(section, -1) {
		have[m[1]] = strings.Trim(m[2], "`")
	}
	v := reflect.ValueOf(defaults)
	for _, f := range reflect.VisibleFields(v.Type()) {
		key := f.Tag.Get("json")
		if key == "-" || f.Anonymous {
			continue
		}
		want := fmt.Sprint(v.FieldByIndex(f.Index).Interface())
		if v.FieldByIndex(f.Index).IsZero() {
			want = "–"
		}
		if got, ok := have[key]; !ok {
			t.Errorf("the reference does not have the key %q", key)
		} else if got != want {
			t.Errorf("the reference says that %q is %q unless set; it is %q", key, got, want)
		}
		delete(have, key)
	}
	for key := range have {
		t.Errorf("the reference has the key %q, which daemon.json has not", key)
	}
}
