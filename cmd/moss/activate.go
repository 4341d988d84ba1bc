package main

import (
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"
)

// The annotations that the engine reads (pkg/moss/activation.go).
const (
	annotationActivate = "moss.activate"
	annotationIdle     = "moss.activate.idle"
)

// addActivation asks the engine to hold the container's ports.
func addActivation(c *cli.Context, h *container.HostConfig) error {
	idle := c.String("activate-idle")
	if !c.Bool("activate") {
		if idle != "" {
			return errors.New("cannot use --activate-idle without --activate")
		}
		return nil
	}
	if h.Annotations == nil {
		h.Annotations = map[string]string{}
	}
	h.Annotations[annotationActivate] = "true"
	if idle != "" {
		h.Annotations[annotationIdle] = idle
	}
	return nil
}
