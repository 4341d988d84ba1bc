package main

import (
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
)

func platformFlag(use string) cli.Flag {
	return &cli.StringFlag{Name: "platform", Usage: use, EnvVars: []string{"DOCKER_DEFAULT_PLATFORM"}}
}

// platform reads --platform; nil where it is not set. As with docker, the
// architecture may stand alone.
func platform(c *cli.Context) (*ocispec.Platform, error) {
	text := c.String("platform")
	if text == "" {
		return nil, nil //nolint:nilnil // no platform is no error
	}
	parts := strings.Split(strings.ToLower(text), "/")
	for _, p := range parts {
		if p == "" || len(parts) > 3 {
			return nil, fmt.Errorf("cannot use --platform %q: it is not OS/ARCH[/VARIANT]", text)
		}
	}
	switch {
	case len(parts) > 1:
	case parts[0] == "linux":
		parts = append(parts, runtime.GOARCH)
	default:
		parts = append([]string{"linux"}, parts...)
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// platforms is platform as the list that some requests take.
func platforms(c *cli.Context) ([]ocispec.Platform, error) {
	p, err := platform(c)
	if err != nil || p == nil {
		return nil, err
	}
	return []ocispec.Platform{*p}, nil
}
