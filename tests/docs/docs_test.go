// Package docs keeps the documentation true: the commands of the README and of
// the tutorial run against a real engine and print what the text shows; links
// and paths lead somewhere; the tables of commands, routes, packages and settings
// are those of the code. Tables are written anew with
//
//	go test ./tests/docs -run TestTables -update
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// page is one file of the documentation; its name is relative to the checkout.
type page struct{ name, text string }

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages are all Markdown files of the checkout.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == "bin" || rel == ".git") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && strings.HasSuffix(rel, ".md") {
			all = append(all, page{filepath.ToSlash(rel), read(t, rel)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "docs/tutorial.md", "docs/reference.md", "docs/ARCHITECTURE.md"} {
		if !slices.ContainsFunc(all, func(p page) bool { return p.name == name }) {
			t.Fatalf("%s is missing, or the test looks in the wrong place", name)
		}
	}
	return all
}

// command is one command of a page with the output the page shows for it.
type command struct {
	line   int
	text   string
	output []string
	shows  bool // in a console block, where no output means none
}

var fence = regexp.MustCompile("^(```+)\\s*([a-z]*)")

// commands are those of the page's sh and console blocks. In an sh block every
// line is one, in a console block those that begin with "$ "; a backslash at
// the end joins the next line.
func (p page) commands() []command {
	var (
		all  []command
		open string // the fence of the block we are in
		kind string
		join bool
	)
	for i, line := range strings.Split(p.text, "\n") {
		if m := fence.FindStringSubmatch(line); open == "" && m != nil {
			open, kind, join = m[1], m[2], false
			continue
		}
		if open == "" || strings.TrimSpace(line) == open {
			open = ""
			continue
		}
		if kind != "sh" && kind != "console" {
			continue
		}
		text, prompt := strings.CutPrefix(line, "$ ")
		switch last := len(all) - 1; {
		case join:
			all[last].text += "\n" + line
		case kind == "console" && !prompt:
			if last >= 0 {
				all[last].output = append(all[last].output, strings.TrimRight(line, " "))
			}
			continue
		case kind == "sh" && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#")):
			continue
		default:
			all = append(all, command{line: i + 1, text: text, shows: kind == "console"})
		}
		join = strings.HasSuffix(line, "\\")
	}
	return all
}

func TestParse(t *testing.T) {
	got := page{text: "```sh\n# no\none \\\n  more\n```\n```console\n$ two\nout\n…\n$ three\n```\n```text\n$ no\n```\n"}.commands()
	want := []command{
		{line: 3, text: "one \\\n  more"},
		{line: 7, text: "two", output: []string{"out", "…"}, shows: true},
		{line: 10, text: "three", shows: true},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range want {
		if got[i].line != want[i].line || got[i].text != want[i].text || got[i].shows != want[i].shows || !slices.Equal(got[i].output, want[i].output) {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}
