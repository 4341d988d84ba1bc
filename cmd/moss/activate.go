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
	annotationListen   = "moss.activate.listen-fds"
)

// addActivation asks the engine to hold the container's ports.
func addActivation(c *cli.Context, h *container.HostConfig) error {
	idle := c.String("activate-idle")
	if !c.Bool("activate") {
		if idle != "" {
			return errors.New("cannot use --activate-idle without --activate")
		}
		if c.Bool("activate-listen-fds") {
			return errors.New("cannot use --activate-listen-fds without --activate")
		}
		return nil
	}
	if h.Annotations == nil {
		h.Annotations = map[string]string{}
	}
	h.Annotations[annotationActivate] = "true"
	if c.Bool("activate-listen-fds") {
		h.Annotations[annotationListen] = "true"
	}
	if idle != "" {
		h.Annotations[annotationIdle] = idle
	}
	return nil
}
