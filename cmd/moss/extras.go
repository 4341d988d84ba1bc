package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/setup"
)

// extras are the files beside the units: the context of docker's client for
// each engine, and completions and manual pages for the one of the usual name.
// Without binDir, only their paths are wanted.
func (a *app) extras(ctx context.Context, cfg config.Config, binDir string) ([]setup.Extra, error) {
	docker := a.dockerDir()
	one, err := setup.DockerContext(docker, cfg.Prefix, cfg.Socket())
	if err != nil || cfg.Prefix != config.DefaultPrefix {
		return []setup.Extra{one}, err
	}
	all := []setup.Extra{one}
	data := filepath.Dir(cfg.Data)
	for _, shell := range []struct{ name, path string }{
		{"bash", "bash-completion/completions/moss"}, {"zsh", "zsh/site-functions/_moss"}, {"fish", "fish/vendor_completions.d/moss.fish"},
	} {
		text, err := completions.ReadFile("completions/moss." + shell.name)
		if err != nil {
			return nil, err
		}
		// zsh looks at the first line.
		first, rest, _ := strings.Cut(string(text), "\n")
		all = append(all, setup.Extra{Path: filepath.Join(data, shell.path), Text: first + "\n# " + setup.Marker + "\n" + rest})
	}
	var mossd bytes.Buffer
	if binDir != "" {
		daemon := exec.CommandContext(ctx, filepath.Join(binDir, names.Daemon), "manual")
		daemon.Stdout, daemon.Stderr = &mossd, a.err
		if err := daemon.Run(); err != nil {
			return nil, fmt.Errorf("cannot make the manual page of mossd: %w", err)
		}
	}
	for _, page := range []struct{ path, text string }{{"man/man1/moss.1", manual}, {"man/man8/mossd.8", mossd.String()}} {
		all = append(all, setup.Extra{Path: filepath.Join(data, page.path), Text: `.\" ` + setup.Marker + "\n" + page.text})
	}
	return all, nil
}

// manual is moss(1). TestManual writes it: what makes manual pages of commands
// would cost each start of moss half a millisecond.
//
//go:embed moss.1
var manual string

// manualsUnseen says whether manual pages are where man(1) does not look, and
// where that is. What it looks at depends on the PATH and more, see manpath(5);
// where there is no manpath(1), nobody can tell.
func (a *app) manualsUnseen(ctx context.Context, all []setup.Extra) (dir string, unseen bool) {
	for _, x := range all {
		if strings.HasSuffix(x.Path, "/man1/moss.1") {
			dir = filepath.Dir(filepath.Dir(x.Path))
		}
	}
	if dir == "" {
		return "", false
	}
	out, err := exec.CommandContext(ctx, "manpath", "-q").Output()
	return dir, err == nil && !slices.Contains(filepath.SplitList(strings.TrimSpace(string(out))), dir)
}

// dockerDir is where docker's client has its configuration.
func (a *app) dockerDir() string {
	if dir := a.getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(a.getenv("HOME"), ".docker")
}

// chosenContext says whether docker's client talks to the engine of a name by itself.
func (a *app) chosenContext(name string) bool {
	text, err := os.ReadFile(filepath.Join(a.dockerDir(), "config.json"))
	var c struct {
		CurrentContext string `json:"currentContext"`
	}
	return err == nil && json.Unmarshal(text, &c) == nil && c.CurrentContext == name
}

// wrote says whether docker's client has the context of a name since just now.
func wrote(r setup.Report, contexts []setup.Extra) bool {
	return slices.ContainsFunc(contexts, func(x setup.Extra) bool { return x.OwnDir && slices.Contains(r.Done, "wrote "+x.Path) })
}
