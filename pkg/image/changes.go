package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// applyChanges makes a configuration of Dockerfile instructions, as
// docker import --change has them. Each string may hold several lines.
// Errors: Invalid, naming the line.
func applyChanges(changes []string) (c moss.ContainerConfig, err error) {
	err = change(&c, changes)
	return c, err
}

// change does the same to a configuration that there is.
func change(c *moss.ContainerConfig, changes []string) error {
	command := false // one was given
	for _, line := range logicalLines(changes) {
		word, rest, _ := strings.Cut(line, " ")
		if i := strings.IndexByte(line, '\t'); i >= 0 && i < len(word) {
			word, rest = line[:i], line[i+1:]
		}
		rest = strings.TrimSpace(rest)
		apply, ok := instructions[strings.ToUpper(word)]
		if !ok {
			return moss.Errorf(moss.Invalid, "change %q: %s is not a valid change command; there are %s", line, strings.ToUpper(word), strings.Join(slices.Sorted(maps.Keys(instructions)), ", "))
		}
		err := errors.New("it has no arguments")
		if rest != "" {
			err = apply(c, rest)
		}
		if err != nil {
			return moss.Errorf(moss.Invalid, "change %q: %w", line, err)
		}
		switch strings.ToUpper(word) {
		case "CMD":
			command = true
		case "ENTRYPOINT":
			if !command { // the old one's arguments make no sense with it
				c.Cmd = nil
			}
		}
	}
	sortPorts(c.ExposedPorts)
	c.ExposedPorts = slices.Compact(c.ExposedPorts)
	slices.Sort(c.Volumes)
	c.Volumes = slices.Compact(c.Volumes)
	return nil
}

// logicalLines joins lines that a backslash continues, and leaves out comments.
func logicalLines(changes []string) []string {
	var out []string
	held := ""
	for line := range strings.SplitSeq(strings.Join(changes, "\n"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if part, more := strings.CutSuffix(line, `\`); more {
			held += part
			continue
		}
		out = append(out, held+line)
		held = ""
	}
	if held != "" {
		out = append(out, held)
	}
	return out
}

var instructions = map[string]func(*moss.ContainerConfig, string) error{
	"CMD":         func(c *moss.ContainerConfig, rest string) error { c.Cmd = commandLine(rest); return nil },
	"ENTRYPOINT":  func(c *moss.ContainerConfig, rest string) error { c.Entrypoint = commandLine(rest); return nil },
	"ENV":         env,
	"EXPOSE":      expose,
	"HEALTHCHECK": healthCheck,
	"LABEL":       label,
	"ONBUILD":     onBuild,
	"STOPSIGNAL":  stopSignal,
	"USER":        user,
	"VOLUME":      volume,
	"WORKDIR":     workdir,
}

// commandLine reads the exec form, a JSON array, or the shell form, anything else.
func commandLine(rest string) []string {
	if words, ok := jsonWords(rest); ok {
		return words
	}
	return []string{"/bin/sh", "-c", rest}
}

func jsonWords(rest string) ([]string, bool) {
	if !strings.HasPrefix(rest, "[") {
		return nil, false
	}
	words := []string{}
	if err := json.Unmarshal([]byte(rest), &words); err != nil {
		return nil, false
	}
	return words, true
}

func env(c *moss.ContainerConfig, rest string) error {
	list, err := pairs(rest, c.Env)
	if err != nil {
		return err
	}
	for _, p := range list {
		entry := p[0] + "=" + p[1]
		if i := slices.IndexFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, p[0]+"=") }); i >= 0 {
			c.Env[i] = entry
		} else {
			c.Env = append(c.Env, entry)
		}
	}
	return nil
}

func label(c *moss.ContainerConfig, rest string) error {
	list, err := pairs(rest, c.Env)
	if err != nil {
		return err
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for _, p := range list {
		c.Labels[p[0]] = p[1]
	}
	return nil
}

// pairs reads "k=v k2=v2", or the old form "k all the rest".
func pairs(rest string, env []string) ([][2]string, error) {
	words, err := splitWords(rest)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(words[0], "=") {
		if len(words) < 2 {
			return nil, errors.New("it needs a name and a value")
		}
		value, err := expand(strings.TrimSpace(rest[len(words[0]):]), env)
		return [][2]string{{words[0], value}}, err
	}
	var list [][2]string
	for _, w := range words {
		w, err := expand(w, env)
		if err != nil {
			return nil, err
		}
		k, v, ok := strings.Cut(w, "=")
		switch {
		case !ok:
			return nil, fmt.Errorf("can't find = in %q: it must be of the form name=value", w)
		case k == "":
			return nil, fmt.Errorf("the name in %q is empty", w)
		}
		list = append(list, [2]string{k, v})
	}
	return list, nil
}

func expose(c *moss.ContainerConfig, rest string) error {
	words, err := expandWords(rest, c.Env)
	if err != nil {
		return err
	}
	for _, w := range words {
		ports, err := parsePorts(w)
		if err != nil {
			return err
		}
		c.ExposedPorts = append(c.ExposedPorts, ports...)
	}
	return nil
}

func volume(c *moss.ContainerConfig, rest string) error {
	words, ok := jsonWords(rest)
	if !ok {
		var err error
		if words, err = expandWords(rest, c.Env); err != nil {
			return err
		}
	}
	for _, w := range words {
		if strings.TrimSpace(w) == "" {
			return errors.New("a volume has no path")
		}
		c.Volumes = append(c.Volumes, w)
	}
	return nil
}

func user(c *moss.ContainerConfig, rest string) (err error) {
	c.User, err = oneWord(rest, c.Env)
	return err
}

func workdir(c *moss.ContainerConfig, rest string) error {
	dir, err := expand(rest, c.Env)
	if err != nil {
		return err
	}
	if dir == "" {
		return errors.New("the directory is empty")
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func stopSignal(c *moss.ContainerConfig, rest string) error {
	sig, err := oneWord(rest, c.Env)
	if err != nil {
		return err
	}
	if _, err := moss.ParseSignal(sig); err != nil {
		return err
	}
	c.StopSignal = sig
	return nil
}

func onBuild(c *moss.ContainerConfig, rest string) error {
	word, _, _ := strings.Cut(rest, " ")
	switch strings.ToUpper(word) {
	case "ONBUILD", "FROM", "MAINTAINER":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", strings.ToUpper(word))
	}
	c.OnBuild = append(c.OnBuild, rest)
	return nil
}

func oneWord(rest string, env []string) (string, error) {
	words, err := expandWords(rest, env)
	if err != nil {
		return "", err
	}
	if len(words) != 1 || words[0] == "" {
		return "", errors.New("it takes exactly one argument")
	}
	return words[0], nil
}

func expandWords(rest string, env []string) ([]string, error) {
	words, err := splitWords(rest)
	if err != nil {
		return nil, err
	}
	for i, w := range words {
		if words[i], err = expand(w, env); err != nil {
			return nil, err
		}
	}
	return words, nil
}
