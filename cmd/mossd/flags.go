package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/config"
)

// settingFlags has a flag for each setting of daemon.json that can have one.
func settingFlags() []cli.Flag {
	var flags []cli.Flag
	short := map[string][]string{"host": {"H"}, "debug": {"D"}, "log-level": {"l"}, "storage-driver": {"s"}, "pidfile": {"p"}}
	for _, s := range config.Settings() {
		switch s.Kind {
		case config.Text:
			flags = append(flags, &cli.StringFlag{Name: s.Flag, Aliases: short[s.Flag], Usage: s.Usage})
		case config.Count:
			flags = append(flags, &cli.IntFlag{Name: s.Flag, Usage: s.Usage})
		case config.Yes:
			flags = append(flags, &cli.BoolFlag{Name: s.Flag, Aliases: short[s.Flag], Usage: s.Usage})
		case config.Texts, config.Pairs:
			flags = append(flags, &cli.StringSliceFlag{Name: s.Flag, Aliases: short[s.Flag], Usage: s.Usage + "; may be repeated"})
		}
	}
	return flags
}

// given are the settings that the command line has, by their keys.
func given(c *cli.Context) (map[string]any, error) {
	values := map[string]any{}
	set := c.FlagNames() // IsSet looks through all flags for each
	for _, s := range config.Settings() {
		if s.Flag == "" || !slices.Contains(set, s.Flag) {
			continue
		}
		switch s.Kind {
		case config.Text:
			values[s.Key] = c.String(s.Flag)
		case config.Count:
			values[s.Key] = c.Int(s.Flag)
		case config.Yes:
			values[s.Key] = c.Bool(s.Flag)
		case config.Texts:
			values[s.Key] = c.StringSlice(s.Flag)
		case config.Pairs:
			pairs := map[string]string{}
			for _, p := range c.StringSlice(s.Flag) {
				key, value, ok := strings.Cut(p, "=")
				if !ok {
					return nil, fmt.Errorf("--%s %s: not like key=value", s.Flag, p)
				}
				pairs[key] = value
			}
			values[s.Key] = pairs
		}
	}
	return values, nil
}

// settings are the configuration and how it came to be, so that it can be read anew.
type settings struct {
	config.Config
	from config.Sources

	defaults config.Config
	path     string
	flags    map[string]any
}

// read lays the file over the defaults and the flags over both.
func (s settings) read() (settings, error) {
	var err error
	if s.Config, s.from, err = s.defaults.Load(s.path, s.flags); err != nil {
		return s, err
	}
	if s.Data, err = realPath(s.Data); err != nil {
		return s, fmt.Errorf("cannot use the setting \"data-root\": %w", err)
	}
	return s, nil
}

// realPath is a path without symbolic links, as far as it is there. The runtime takes none, and
// the kernel names mounts without them.
func realPath(path string) (string, error) {
	found, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link to what is not there", path)
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path, nil
	}
	if dir, err = realPath(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

func configure(c *cli.Context, getenv func(string) string) (settings, error) {
	var s settings
	var err error
	if s.defaults, err = config.Default(c.String("prefix"), getenv); err != nil {
		return s, err
	}
	s.path = c.String("config-file")
	if s.path == "" {
		s.path = s.defaults.File()
	} else if _, err := os.Stat(s.path); err != nil {
		return s, err
	}
	if s.flags, err = given(c); err != nil {
		return s, err
	}
	return s.read()
}
