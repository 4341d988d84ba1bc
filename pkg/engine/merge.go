package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// merge completes a client's configuration with the image's, by docker's
// rules. entrypointSet says that the client gave one, even an empty one.
func merge(user, image moss.ContainerConfig, entrypointSet bool) moss.ContainerConfig {
	c := user
	c.User = first(user.User, image.User)
	c.WorkingDir = first(user.WorkingDir, image.WorkingDir)
	c.StopSignal = first(user.StopSignal, image.StopSignal)
	c.ExposedPorts = union(user.ExposedPorts, image.ExposedPorts)
	c.Volumes = union(user.Volumes, image.Volumes)
	c.Env = mergeEnv(user.Env, image.Env)
	c.Labels = maps.Clone(image.Labels)
	if c.Labels == nil {
		c.Labels = make(map[string]string)
	}
	maps.Copy(c.Labels, user.Labels)
	if len(user.Entrypoint) == 0 {
		if len(user.Cmd) == 0 {
			c.Cmd = image.Cmd
		}
		if !entrypointSet {
			c.Entrypoint = image.Entrypoint
		}
	}
	// docker's way to say "none".
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	c.Healthcheck = mergeHealth(user.Healthcheck, image.Healthcheck)
	if len(c.Shell) == 0 {
		c.Shell = image.Shell
	}
	if c.StopTimeout == nil {
		c.StopTimeout = image.StopTimeout
	}
	return c
}

// mergeHealth takes from the image what the user left open.
func mergeHealth(user, image *moss.Healthcheck) *moss.Healthcheck {
	if user == nil || image == nil {
		return cmp.Or(user, image)
	}
	h := *user
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	h.Interval, h.Timeout = cmp.Or(h.Interval, image.Interval), cmp.Or(h.Timeout, image.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, image.StartPeriod), cmp.Or(h.StartInterval, image.StartInterval)
	h.Retries = cmp.Or(h.Retries, image.Retries)
	return &h
}

// mergeEnv adds the image's variables that the user did not set. A name alone
// stays: it takes the variable of that name away where the process starts.
func mergeEnv(user, image []string) []string {
	set := make(map[string]bool, len(user))
	for _, kv := range user {
		k, _, _ := strings.Cut(kv, "=")
		set[k] = true
	}
	env := slices.Clone(user)
	for _, kv := range image {
		if k, _, _ := strings.Cut(kv, "="); !set[k] {
			env = append(env, kv)
		}
	}
	return env
}

func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
