package config

import (
	"fmt"
	"time"
)

// Idle is how long the engine has nothing to do before it ends; 0 for never.
func (c *Config) Idle() time.Duration {
	d, _ := idleTimeout(c.IdleTimeout) // Validate has read it
	return d
}

func idleTimeout(s string) (time.Duration, error) {
	if s == "" || s == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("%q is not a time of a second or more, like 10m", s)
	}
	return d, nil
}

// validateIdle refuses what nobody would answer while the engine is away.
func (c *Config) validateIdle() error {
	d, err := idleTimeout(c.IdleTimeout)
	switch {
	case err != nil:
	case d == 0:
		return nil
	case len(c.Hosts) > 0:
		err = fmt.Errorf("nobody would listen at %s while the engine is away: take it out of hosts", c.Hosts[0])
	case c.MetricsAddress != "":
		err = fmt.Errorf("nobody would listen at %s while the engine is away: unset metrics-addr", c.MetricsAddress)
	default:
		return nil
	}
	return &Error{Key: "idle-timeout", Err: err}
}
