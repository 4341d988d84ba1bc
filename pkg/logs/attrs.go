package logs

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"text/template"

	"github.com/moss-containers/moss/pkg/moss"
)

// info is what a tag's template may say, by docker's names.
type info struct {
	ContainerID, ContainerName, ContainerImageID, ContainerImageName string
	ContainerEntrypoint, DaemonName, LogPath                         string
	ContainerArgs, ContainerEnv                                      []string
	ContainerLabels, Config                                          map[string]string
}

// ID is the short id.
func (i *info) ID() string { return moss.ContainerID(i.ContainerID).Short() }

// FullID is the whole id.
func (i *info) FullID() string { return i.ContainerID }

// Name is the container's name.
func (i *info) Name() string { return strings.TrimPrefix(i.ContainerName, "/") }

// ImageID is the image's id, cut short.
func (i *info) ImageID() string {
	id := strings.TrimPrefix(i.ContainerImageID, "sha256:")
	return id[:min(len(id), 12)]
}

// ImageFullID is the image's id.
func (i *info) ImageFullID() string { return i.ContainerImageID }

// ImageName is the name that the container was made by.
func (i *info) ImageName() string { return i.ContainerImageName }

// Command is the command line.
func (i *info) Command() string {
	return strings.Join(append([]string{i.ContainerEntrypoint}, i.ContainerArgs...), " ")
}

func infoOf(c *moss.Container) *info {
	return &info{
		ContainerID: string(c.ID), ContainerName: "/" + c.Name, ContainerImageID: string(c.Image), ContainerImageName: c.ImageRef,
		ContainerEntrypoint: c.Path, ContainerArgs: c.Args, ContainerEnv: c.Config.Env, ContainerLabels: c.Config.Labels,
		Config: c.Host.LogConfig.Options, DaemonName: "moss", LogPath: c.LogPath,
	}
}

var tagFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		err := enc.Encode(v)
		return strings.TrimSpace(b.String()), err
	},
	"split": strings.Split,
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
	"pad": func(s string, before, after int) string {
		if s == "" || before < 0 || after < 0 || before+after > 1<<10 {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, n int) string { return s[:max(0, min(len(s), n))] },
	"println":  func(s string) string { return s + "\n" },
}

// parseTag checks a tag's template; what it may not name is told when it is used.
func parseTag(tag string) (*template.Template, error) {
	t, err := template.New("tag").Funcs(tagFuncs).Parse(tag)
	if err != nil {
		return nil, moss.Errorf(moss.Invalid, "log opt 'tag' is no template: %v", err)
	}
	return t, nil
}

// tagOf is a container's tag, by the option or else by a default template.
func tagOf(c *moss.Container, fallback string) (string, error) {
	text := c.Host.LogConfig.Options["tag"]
	if text == "" {
		text = fallback
	}
	t, err := parseTag(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, infoOf(c)); err != nil {
		return "", moss.Errorf(moss.Invalid, "log opt 'tag' cannot be filled in: %v", err)
	}
	return b.String(), nil
}

// extras are the labels and variables that the options choose, their names
// passed through rename (nil for as they are).
func extras(c *moss.Container, rename func(string) string) (map[string]string, error) {
	o := c.Host.LogConfig.Options
	env := map[string]string{}
	for _, kv := range c.Config.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	if rename == nil {
		rename = func(s string) string { return s }
	}
	out := map[string]string{}
	for _, from := range []struct {
		list, regex string
		values      map[string]string
	}{{"labels", "labels-regex", c.Config.Labels}, {"env", "env-regex", env}} {
		for k := range strings.SplitSeq(o[from.list], ",") {
			if v, ok := from.values[k]; ok {
				out[rename(k)] = v
			}
		}
		if o[from.regex] == "" {
			continue
		}
		re, err := regexp.Compile(o[from.regex])
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "log opt '%s' is no regular expression: %v", from.regex, err)
		}
		for k, v := range from.values {
			if re.MatchString(k) {
				out[rename(k)] = v
			}
		}
	}
	return out, nil
}

// jsonAttrs are the attributes of json-file's entries, as they are written.
func jsonAttrs(c *moss.Container) ([]byte, error) {
	m, err := extras(c, nil)
	if err != nil {
		return nil, err
	}
	if c.Host.LogConfig.Options["tag"] != "" {
		if m["tag"], err = tagOf(c, ""); err != nil {
			return nil, err
		}
	}
	if len(m) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(m)
	return append(append([]byte(`"attrs":`), b...), ','), err
}
