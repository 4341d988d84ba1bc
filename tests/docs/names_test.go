package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// help is what `moss --help` and `moss COMMAND --help` tell.
type help struct {
	name, use, usage string
	flags            []flagLine
	commands         []string // of a group
}

// flagLine is one line of the options: its spellings with what they take, and its
// meaning.
type flagLine struct{ spelling, text string }

// names are a flag's dashed names.
func (f flagLine) names() []string { return dashed.FindAllString(f.spelling, -1) }

var (
	dashed   = regexp.MustCompile(`(?:^|\s)--?[a-zA-Z][a-z-]*|^--?[a-zA-Z][a-z-]*`)
	repeated = regexp.MustCompile(`^(.*) \[ .* \]$`)
	spaces   = regexp.MustCompile(`\s{2,}`)
)

func parseHelp(text string) help {
	var h help
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n ")
		if line != "" && !strings.HasPrefix(line, " ") {
			section = strings.TrimSuffix(line, ":")
			continue
		}
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case section == "NAME":
			h.name, h.use, _ = strings.Cut(line, " - ")
		case section == "USAGE":
			h.usage = strings.Replace(line, " [command options]", " [FLAG…]", 1)
		case section == "COMMANDS":
			h.commands = append(h.commands, strings.TrimSuffix(strings.Fields(line)[0], ","))
		case section == "OPTIONS" || section == "GLOBAL OPTIONS":
			parts := spaces.Split(line, 2)
			f := flagLine{spelling: parts[0]}
			if len(parts) == 2 {
				f.text = strings.TrimSuffix(parts[1], " (default: false)")
			}
			if m := repeated.FindStringSubmatch(f.spelling); m != nil {
				f.spelling = m[1]
				f.text += "; may be repeated"
			}
			h.flags = append(h.flags, f)
		}
	}
	return h
}

// helpOf is what a command, or a group's member, tells of itself; --help goes
// without saying.
func helpOf(t *testing.T, words ...string) help {
	t.Helper()
	h := parseHelp(moss(t, append(words, "--help")...))
	h.flags = slices.DeleteFunc(h.flags, func(f flagLine) bool { return f.spelling == "--help" })
	return h
}

// commandNames are the commands that `moss --help` lists.
func commandNames(t *testing.T) []string {
	t.Helper()
	_, list, _ := strings.Cut(moss(t, "--help"), "COMMANDS:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var names []string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, strings.TrimSuffix(fields[0], ","))
		}
	}
	if len(names) < 20 {
		t.Fatalf("moss --help lists only %q", names)
	}
	return names
}

// TestNames looks at the commands of every page by name: make's targets,
// moss's commands and flags, the packages apt installs.
func TestNames(t *testing.T) {
	known := commandNames(t)
	flags := make(map[string][]string)
	for _, name := range known {
		group := helpOf(t, name)
		all := group.flags
		for _, member := range group.commands {
			all = append(all, helpOf(t, name, member).flags...)
		}
		for _, f := range all {
			for _, n := range f.names() {
				flags[name] = append(flags[name], strings.TrimSpace(n))
			}
		}
	}
	makefile, deps := read(t, "Makefile"), read(t, "tests/dev/deps.sh")
	seen := 0
	for _, p := range pages(t) {
		for _, c := range p.commands() {
			words := strings.Fields(c.text)
			switch words[0] {
			case "make":
				for _, w := range words[1:] {
					if strings.HasPrefix(w, "#") {
						break
					}
					seen++
					if name, _, variable := strings.Cut(w, "="); variable {
						if !regexp.MustCompile(`\b` + name + `\b`).MatchString(makefile + read(t, "tests/dev/test.sh")) {
							t.Errorf("%s:%d: make has no variable %s", p.name, c.line, name)
						}
					} else if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(w) + `:.*## `).MatchString(makefile) {
						t.Errorf("%s:%d: make has no target %s", p.name, c.line, w)
					}
				}
			case "moss":
				seen++
				checkMoss(t, p, c, words, known, flags)
			case "sudo":
				if len(words) > 3 && words[1] == "apt" && words[2] == "install" {
					for _, pkg := range words[3:] {
						seen++
						if !regexp.MustCompile(`\b` + regexp.QuoteMeta(pkg) + `\b`).MatchString(deps) {
							t.Errorf("%s:%d: tests/dev/deps.sh does not know the package %s", p.name, c.line, pkg)
						}
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d names looked at", seen)
	}
}

func checkMoss(t *testing.T, p page, c command, words, known []string, flags map[string][]string) {
	t.Helper()
	if len(words) < 2 || strings.HasPrefix(words[1], "-") {
		return
	}
	if !slices.Contains(known, words[1]) {
		t.Errorf("%s:%d: moss has no command %s", p.name, c.line, words[1])
		return
	}
	for _, w := range words[2:] {
		if w == "|" || w == "#" || w == "--" {
			return
		}
		if !strings.HasPrefix(w, "--") {
			continue
		}
		if name, _, _ := strings.Cut(w, "="); !slices.Contains(flags[words[1]], name) {
			t.Errorf("%s:%d: moss %s has no flag %s", p.name, c.line, words[1], name)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeRef = regexp.MustCompile("`((?:cmd|pkg|rootless|userns|systemd-units|tests|docs)(?:/[A-Za-z0-9_.-]+)*/?)`")
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
)

// TestLinks follows links to files and their headings, and paths in code style.
func TestLinks(t *testing.T) {
	seen := 0
	for _, p := range pages(t) {
		text := fenced.ReplaceAllString(p.text, "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			seen++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := p.name
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(p.name), file))
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", p.name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: %s has no heading #%s", p.name, target, anchor)
			}
		}
		for _, m := range codeRef.FindAllStringSubmatch(text, -1) {
			seen++
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: there is no %s", p.name, m[1])
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d links and paths found", seen)
	}
}

// anchors are a page's headings as links name them.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}
