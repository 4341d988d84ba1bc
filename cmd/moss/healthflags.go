package main

import (
	"reflect"

	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/moss"
)

// healthConfig reads the flags of the health check, and makes a label of what
// is done with an unhealthy container.
func healthConfig(c *cli.Context, cfg *container.Config) error {
	h := container.HealthConfig{
		Interval: c.Duration("health-interval"), Timeout: c.Duration("health-timeout"), Retries: c.Int("health-retries"),
		StartPeriod: c.Duration("health-start-period"), StartInterval: c.Duration("health-start-interval"),
	}
	if line := c.String("health-cmd"); line != "" {
		h.Test = []string{moss.TestShell, line}
	}
	asked := !reflect.DeepEqual(h, container.HealthConfig{})
	switch {
	case c.Bool("no-healthcheck") && asked:
		return &status{125, "the flags --no-healthcheck and --health-* exclude each other"}
	case c.Bool("no-healthcheck"):
		cfg.Healthcheck = &container.HealthConfig{Test: []string{moss.TestNone}}
	case asked:
		cfg.Healthcheck = &h
	}
	if action := c.String("on-unhealthy"); action != "" {
		if cfg.Labels == nil {
			cfg.Labels = map[string]string{}
		}
		cfg.Labels[moss.UnhealthyLabel] = action
	}
	return nil
}
