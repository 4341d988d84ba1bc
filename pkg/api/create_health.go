package api

import (
	"reflect"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// health reads a health check. What it leaves open is the image's; without any
// setting all of it is.
func (d *createDecoder) health() error {
	h := d.in.Healthcheck
	if h == nil || reflect.DeepEqual(*h, container.HealthConfig{}) {
		return nil
	}
	if err := validHealth(h); err != nil {
		return err
	}
	d.out.Config.Healthcheck = &moss.Healthcheck{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
	return nil
}

func validHealth(h *container.HealthConfig) error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch h.Test[0] {
	case moss.TestNone:
		if len(h.Test) > 1 {
			return invalid("Test in Healthcheck takes no arguments after NONE")
		}
	case moss.TestCommand, moss.TestShell:
		if len(h.Test) == 1 || h.Test[1] == "" {
			return invalid("Test in Healthcheck has no command after %s", h.Test[0])
		}
	default:
		return invalid("Test in Healthcheck begins with %q: want CMD, CMD-SHELL or NONE", h.Test[0])
	}
	return nil
}
