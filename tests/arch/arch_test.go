// Package arch holds the laws of the code that a compiler does not: who may
// import whom, and why. It reads sources, so it needs no go command.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/moss-containers/moss"

// law says which of our packages a directory (and all below it) may import,
// and why no others. An entry covers all below it, "*" everything.
type law struct {
	may []string
	why string
}

const (
	adapter = "adapters never import each other nor the engine: data crosses between them as nouns of pkg/moss"
	pure    = "it is pure and must stay usable by everyone"
)

var laws = map[string]law{
	"pkg/moss":      {nil, "it holds the nouns everyone shares: anything it imported, everyone would"},
	"pkg/lifecycle": {[]string{"pkg/moss"}, pure},
	"pkg/version":   {nil, pure},
	"pkg/names":     {nil, "mains, the command line's doctor and the holder call things by the same names"},
	"pkg/config":    {[]string{"pkg/moss", "pkg/names"}, "configuration is read before anything else exists"},
	"pkg/logbridge": {nil, "it only turns foreign log lines into slog"},
	"pkg/otlp":      {nil, "it only sends spans that the SDK gives it"},
	"userns":        {[]string{"pkg/moss"}, "it runs before everything else, in every binary that joins"},
	"rootless":      {[]string{"userns", "pkg/moss", "pkg/names", "pkg/logbridge", "pkg/rights"}, "the holder outlives the daemon and stays small"},
	"systemd-units": {[]string{"pkg/config", "pkg/units"}, "it is unit files and their installation"},
	"pkg/events":    {[]string{"pkg/moss"}, adapter},
	"pkg/engine":    {[]string{"pkg/moss", "pkg/lifecycle"}, "the engine imports no adapter: it owns the interfaces in ports.go"},
	"pkg/image":     {[]string{"pkg/moss"}, adapter},
	"pkg/storage":   {[]string{"pkg/moss", "userns", "pkg/children"}, adapter},
	"pkg/network":   {[]string{"pkg/moss", "pkg/lately"}, adapter},
	"pkg/volume":    {[]string{"pkg/moss"}, adapter},
	"pkg/plugins":   {[]string{"pkg/moss"}, adapter},
	"pkg/secret":    {[]string{"pkg/moss"}, adapter},
	"pkg/selinux":   {[]string{"pkg/moss"}, adapter},
	"pkg/execfifo":  {nil, "the daemon and moss-runtime both let containers go with it"},
	"pkg/cgroup":    {nil, "moss-runtime, the daemon and both managers of units look where processes are with it"},
	"pkg/children":  {nil, "moss-runtime and what stands in for systemd end what they have begun with it, and storage finds it"},
	"pkg/lately":    {nil, "adapters that are asked when something last happened remember it with it"},
	"pkg/entry":     {[]string{"pkg/moss"}, "both managers of units listen alike for containers that a connection starts"},
	"pkg/rights":    {nil, "every process of moss that is sent descriptors takes them with it"},
	"pkg/runtime":   {[]string{"pkg/moss", "userns", "pkg/execfifo"}, adapter},
	"pkg/meter":     {[]string{"pkg/moss"}, adapter},
	"pkg/units":     {[]string{"pkg/moss", "pkg/cgroup", "pkg/children", "pkg/entry", "pkg/rights"}, adapter},
	"pkg/logs":      {[]string{"pkg/moss"}, adapter},
	"pkg/stdio":     {[]string{"pkg/moss", "pkg/lately", "pkg/rights"}, adapter},
	"pkg/records":   {[]string{"pkg/moss"}, adapter},
	"pkg/sd":        {[]string{"pkg/moss"}, adapter},
	"pkg/setup":     {[]string{"pkg/moss", "pkg/names", "pkg/units", "systemd-units"}, "it is installation, on the client's side: it needs the manager and the unit files, never the engine"},
	"pkg/doctor":    {[]string{"userns", "pkg/moss", "pkg/names"}, "the CLI links it: it looks at the machine, and nothing heavy comes along"},
	"pkg/api":       {[]string{"pkg/moss", "pkg/version"}, "the API decodes, calls a service it has an interface for, encodes"},
	"cmd":           {[]string{"*"}, "mains wire everything"},
	"tests":         {[]string{"*"}, "tests see everything"},
}

// besides lets single packages import more than their directory may.
var besides = map[string][]string{}

// testsBesides lets test files import more: what two adapters promise together
// is tested on the two.
var testsBesides = map[string][]string{
	"pkg/stdio":  {"pkg/logs"},            // no line is lost or doubled over kill -9
	"pkg/setup":  {"pkg/units", "pkg/sd"}, // what is set up is a user manager's
	"pkg/doctor": {"pkg/units", "pkg/sd"}, // what it judges is a user manager's
}

// contracts are packages that test files may import whatever their package's
// law says.
var contracts = []string{"pkg/engine", "tests", "userns"}

const gvisorWhy = "gvisor-tap-vsock adds half to the memory of a holder that links it: only moss-gvisor does"

// linked says which packages of ours may be imported where alone, tests apart.
var linked = map[string]law{
	"rootless/holder/gvisor": {[]string{"cmd/moss-gvisor"}, gvisorWhy},
}

// door says where a foreign library may be imported.
type door struct {
	lib string // import path, with all below it
	in  []string
	why string
}

var doors = []door{
	{"github.com/godbus/dbus", []string{"pkg/units"}, "only units speaks D-Bus"},
	{"github.com/coreos/go-systemd/v22/dbus", []string{"pkg/units"}, "only units speaks D-Bus"},
	{"github.com/coreos/go-systemd/v22/unit", []string{"pkg/units"}, "only units writes units"},
	{"go.etcd.io/bbolt", []string{"pkg/records"}, "only records knows how state lies on disk"},
	{"github.com/containers/image", []string{"pkg/image", "pkg/storage"}, "images are image's, layers storage's"},
	{"github.com/containers/storage", []string{"pkg/storage", "pkg/image"}, "images are image's, layers storage's"},
	{"github.com/vishvananda/netlink", []string{"pkg/network", "rootless"}, "only network and the holder of its namespace make links"},
	{"github.com/google/nftables", []string{"pkg/network", "rootless"}, "only network and the holder of its namespace write rules"},
	{"github.com/miekg/dns", []string{"pkg/network"}, "only network answers names"},
	{"github.com/coder/websocket", []string{"pkg/api"}, "only the API speaks HTTP to clients"},
	{"github.com/moby/moby/api", []string{"pkg/api", "cmd/moss"}, "wire types stop at the API and at its client"},
	{"github.com/moby/moby/client", []string{"cmd/moss", "pkg/api"}, "only the CLI is a client, and the tests of the API"},
	{"github.com/moby/profiles", []string{"pkg/runtime", "cmd/moss-runtime"}, "seccomp profiles become part of the OCI spec"},
	{"github.com/opencontainers/runc", []string{"cmd/moss-runtime"}, "only moss-runtime links libcontainer, so its start stays cheap"},
	{"github.com/opencontainers/selinux", []string{"pkg/selinux"}, "pkg/selinux makes the labels, and is told whether the kernel has SELinux"},
	{"github.com/opencontainers/cgroups", []string{"cmd/moss-runtime"}, "only moss-runtime touches cgroups"},
	{"github.com/rootless-containers/rootlesskit", []string{"rootless"}, "rootless is the door to rootlesskit"},
	{"github.com/rootless-containers/rootlesskit/v3/pkg/network/gvisortapvsock", []string{"rootless/holder/gvisor"}, gvisorWhy},
	{"github.com/containers/gvisor-tap-vsock", []string{"rootless/holder/gvisor"}, gvisorWhy},
	{"github.com/google/gopacket", []string{"rootless/holder/gvisor"}, gvisorWhy},
	{"github.com/urfave/cli", []string{"cmd"}, "command lines belong to mains"},
	{"github.com/sirupsen/logrus", []string{"pkg/logbridge", "rootless", "cmd/moss-runtime"}, "libraries that log through logrus are hooked into slog once"},
	{"go.opentelemetry.io/otel", []string{"pkg/otlp", "cmd/mossd"}, "spans are made around the ports, where the daemon is put together"},
	{"go.opentelemetry.io/proto", []string{"pkg/otlp"}, "only the exporter knows what goes over the wire; collector/trace/v1 would bring gRPC along"},
	{"google.golang.org/protobuf", []string{"pkg/otlp"}, "only the exporter knows what goes over the wire"},
	{"github.com/docker/go-plugins-helpers", []string{"tests"}, "plugins are servers of others: only tests have some"},
	{"github.com/docker/docker", []string{"tests"}, "what docker's plugins are made with is for tests' plugins"},
	{"github.com/rogpeppe/go-internal", []string{"tests"}, "testscript is for tests"},
}

// sleepers may call time.Sleep.
var sleepers = []string{}

type source struct {
	dir  string // of the package, below the module
	name string // file, below the module
	test bool
	file *ast.File
	text string
	fset *token.FileSet
}

// root is the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("no go.mod above the test's directory: %v", err)
	}
	return dir
}

func walk(t *testing.T, visit func(name, full string)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == "bin" || rel == ".git") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && rel != ".git" { // a linked worktree's is a file
			visit(filepath.ToSlash(rel), p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	walk(t, func(name, full string) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		text, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("cannot parse: %v", err)
		}
		all = append(all, source{path.Dir(name), name, strings.HasSuffix(name, "_test.go"), f, string(text), fset})
	})
	if len(all) < 10 {
		t.Fatalf("only %d Go files found: the test looks in the wrong place", len(all))
	}
	return all
}

func below(p, dir string) bool { return dir == "*" || p == dir || strings.HasPrefix(p, dir+"/") }

func imports(s source) []string {
	var paths []string
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// lawFor finds the law of the nearest directory above.
func lawFor(dir string) (string, law, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if l, ok := laws[d]; ok {
			return d, l, true
		}
	}
	return "", law{}, false
}

func broken(s source, imp string) string {
	under, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		return foreign(s, imp)
	}
	if l, ok := linked[under]; ok && !s.test && !below(s.dir, under) && !slices.ContainsFunc(l.may, func(m string) bool { return below(s.dir, m) }) {
		return fmt.Sprintf("%s may only be imported in %s: %s", under, strings.Join(l.may, ", "), l.why)
	}
	at, l, ok := lawFor(s.dir)
	switch {
	case !ok:
		return fmt.Sprintf("%s has no law: say in tests/arch what it may import, and why", s.dir)
	case below(under, at):
		return ""
	case slices.ContainsFunc(append(l.may, besides[s.dir]...), func(m string) bool { return below(under, m) }):
		return ""
	case s.test && slices.ContainsFunc(testsBesides[at], func(m string) bool { return below(under, m) }):
		return ""
	case s.test && slices.ContainsFunc(contracts, func(m string) bool { return below(under, m) }):
		return ""
	}
	return fmt.Sprintf("%s may not import %s: %s", at, under, l.why)
}

func foreign(s source, imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	outside := strings.Contains(first, ".")
	// The fake and the contract suites beside the ports are test doubles.
	double := below(s.dir, "pkg/engine/fake") || below(s.dir, "pkg/engine/porttest")
	if outside && below(s.dir, "pkg/engine") && !double && !s.test &&
		!below(imp, "github.com/opencontainers/runtime-spec") && !below(imp, "github.com/opencontainers/image-spec") &&
		!below(imp, "github.com/opencontainers/go-digest") && !below(imp, "github.com/distribution/reference") {
		return fmt.Sprintf("the engine may not import %s: it knows no foreign library beyond OCI types and the grammar of image names", imp)
	}
	for _, d := range doors {
		if !below(imp, d.lib) || below(s.dir, "tests") {
			continue
		}
		if !slices.ContainsFunc(d.in, func(in string) bool { return below(s.dir, in) }) {
			return fmt.Sprintf("%s may only be imported in %s: %s", imp, strings.Join(d.in, ", "), d.why)
		}
	}
	return ""
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range imports(s) {
			if msg := broken(s, imp); msg != "" {
				t.Errorf("%s: %s", s.name, msg)
			}
		}
	}
}

// The laws themselves catch what they are there for.
func TestLawsBite(t *testing.T) {
	for _, c := range []struct {
		dir, imp string
		test     bool
		want     string
	}{
		{"pkg/engine", module + "/pkg/storage", false, "the engine imports no adapter"},
		{"pkg/engine", "go.etcd.io/bbolt", false, "no foreign library"},
		{"pkg/engine/fake", module + "/pkg/engine", false, ""},
		{"pkg/storage", module + "/pkg/image", false, "adapters never import each other"},
		{"pkg/storage", module + "/pkg/engine/porttest", true, ""},
		{"pkg/storage", module + "/pkg/engine/porttest", false, "adapters never import each other"},
		{"pkg/logs", "github.com/godbus/dbus/v5", false, "only units speaks D-Bus"},
		{"pkg/nowhere", module + "/pkg/moss", false, "has no law"},
		{"cmd/moss", "github.com/opencontainers/runc/libcontainer", false, "only moss-runtime"},
		{"pkg/api", "go.opentelemetry.io/otel/trace", false, "spans are made around the ports"},
		{"cmd/moss-rootless", module + "/rootless/holder/gvisor", false, "only moss-gvisor does"},
		{"rootless/holder", module + "/rootless/holder/gvisor", false, "only moss-gvisor does"},
		{"rootless/holder", module + "/rootless/holder/gvisor", true, ""},
		{"rootless/holder", "github.com/google/gopacket/layers", false, "only moss-gvisor does"},
		{"cmd/moss-gvisor", module + "/rootless/holder/gvisor", false, ""},
		{"cmd/mossd", module + "/pkg/storage", false, ""},
		{"pkg/runtime", "github.com/opencontainers/runtime-spec/specs-go", false, ""},
	} {
		got := broken(source{dir: c.dir, test: c.test}, c.imp)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s importing %s: got %q, want %q", c.dir, c.imp, got, c.want)
		}
	}
}

func TestPackageComments(t *testing.T) {
	documented, all := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.dir == "." || (s.test && strings.HasSuffix(s.file.Name.Name, "_test")) {
			continue
		}
		all[s.dir] = true
		if s.file.Doc != nil {
			documented[s.dir] = true
		}
	}
	for dir := range all {
		if !documented[dir] {
			t.Errorf("%s has no package comment: its first reader has only its name", dir)
		}
	}
}

// Waiting by the clock is either too short or too long.
func TestNoSleep(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || slices.Contains(sleepers, s.name) || below(s.dir, "tests") || below(s.dir, "pkg/engine/porttest") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: time.Sleep: wait for the event itself", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// The programs that start often, once a command or a container, compile no pattern before they know that they need it.
func TestNoPatternsAtStart(t *testing.T) {
	byDir := map[string][]source{}
	for _, s := range sources(t) {
		if !s.test {
			byDir[s.dir] = append(byDir[s.dir], s)
		}
	}
	seen, todo := map[string]bool{}, []string{"cmd/moss", "cmd/moss-runtime"}
	for len(todo) > 0 {
		dir := todo[0]
		todo = todo[1:]
		if seen[dir] {
			continue
		}
		seen[dir] = true
		for _, s := range byDir[dir] {
			for _, imp := range imports(s) {
				if under, ours := strings.CutPrefix(imp, module+"/"); ours {
					todo = append(todo, under)
				}
			}
			for _, at := range patternsAtStart(s.file) {
				t.Errorf("%s: compiled at every start of moss or moss-runtime: match without a pattern, or in sync.OnceValue", s.fset.Position(at))
			}
		}
	}
	if !seen["pkg/moss"] {
		t.Error("pkg/moss is not looked at: the test looks in the wrong place")
	}
}

// patternsAtStart finds what variables of the package are given by regexp.
func patternsAtStart(f *ast.File) (at []token.Pos) {
	for _, d := range f.Decls {
		if _, ok := d.(*ast.FuncDecl); ok {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit: // run later
				return false
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == "regexp" {
						at = append(at, n.Pos())
					}
				}
			}
			return true
		})
	}
	return at
}

// machine matches what ties the tree to the machine it was written on: an
// absolute path of a checkout or a home, a module or package mirror.
var machine = regexp.MustCompile(`/wor` + `k/(main|shared)|/(ro` + `ot|home)/[a-z]+/go/pkg|GOPR` + `OXY=|(?i)https?://[a-z0-9.-]*(mir` + `ror|artif` + `actory|ne` + `xus)[a-z0-9.-]*`)

func TestNoMachinePaths(t *testing.T) {
	walk(t, func(name, full string) {
		if st, err := os.Stat(full); err != nil || st.Size() > 2<<20 || path.Base(name) == "go.sum" {
			return
		}
		text, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(text, 0) {
			return
		}
		if m := machine.Find(text); m != nil {
			t.Errorf("%s names something of one machine: %s", name, m)
		}
	})
}
