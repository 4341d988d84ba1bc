// Package systemdunits has the unit files of the engine; moss setup writes them.
//
// Who needs whom: the socket starts the daemon; the daemon is bound to the
// holder of the namespaces, and so is each container's transient unit. The
// holder wants the daemon. At a stop, containers go first, then the daemon,
// then the holder, because each is ordered after the next.
package systemdunits

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
)

//go:embed moss.socket moss.service moss-rootless.service moss.slice
var files embed.FS

// Params is what the unit files depend on.
type Params struct {
	Prefix string            // of the units' names; default "moss"
	BinDir string            // absolute; where mossd and its programs are
	Env    map[string]string // for the daemon and the holder
	Flags  []string          // for the daemon
}

// Socket names the unit of a prefix that listens for the daemon.
func Socket(prefix string) string { return prefix + ".socket" }

// Service names the daemon's unit of a prefix.
func Service(prefix string) string { return prefix + ".service" }

// Holder names the unit of a prefix that holds the namespaces.
func Holder(prefix string) string { return prefix + "-rootless.service" }

// Slice names the slice of a prefix. It has no dash: systemd would put it inside
// the slice that the part before the dash names, another engine's.
func Slice(prefix string) string { return strings.ReplaceAll(prefix, "-", "_") + ".slice" }

// Compiled when they are asked for: the client is linked with them, and starts often.
var (
	prefixes = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`) })
	envNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })
)

// Render returns the unit files by name.
func Render(p Params) (map[string]string, error) {
	if p.Prefix == "" {
		p.Prefix = "moss"
	}
	if !prefixes().MatchString(p.Prefix) {
		return nil, fmt.Errorf("invalid prefix of units %q: want lower-case letters, digits and single dashes", p.Prefix)
	}
	if !filepath.IsAbs(p.BinDir) || strings.ContainsAny(p.BinDir, "\"\\\n\r\x00") {
		return nil, fmt.Errorf("invalid directory of programs %q: want an absolute path without quotes, backslashes and line ends", p.BinDir)
	}
	data := struct {
		Params
		BinDir      string
		Environment []string
	}{Params: p, BinDir: specifiers(strings.TrimSuffix(p.BinDir, "/"))}
	for _, k := range slices.Sorted(maps.Keys(p.Env)) {
		if !envNames().MatchString(k) || strings.ContainsAny(p.Env[k], "\n\r\x00") {
			return nil, fmt.Errorf("invalid environment variable %q", k+"="+p.Env[k])
		}
		data.Environment = append(data.Environment, k+"="+p.Env[k])
	}
	for _, f := range p.Flags {
		if strings.ContainsAny(f, "\n\r\x00") {
			return nil, fmt.Errorf("invalid flag %q", f)
		}
	}
	t, err := template.New("").Funcs(template.FuncMap{"quote": quote, "word": word}).ParseFS(files, "moss*")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for file, name := range map[string]string{
		"moss.socket": Socket(p.Prefix), "moss.service": Service(p.Prefix),
		"moss-rootless.service": Holder(p.Prefix), "moss.slice": Slice(p.Prefix),
	} {
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, file, data); err != nil {
			return nil, err
		}
		out[name] = b.String()
	}
	return out, nil
}

// specifiers escapes what systemd.unit(5) would expand.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quote makes one word of a value, as systemd.syntax(7) reads it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(s) + `"`
}

// word is quote for command lines, where systemd expands variables too.
func word(s string) string { return strings.ReplaceAll(quote(s), "$", "$$") }
