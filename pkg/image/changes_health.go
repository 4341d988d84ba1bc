package image

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// healthCheck reads NONE, or [--interval=…] [--timeout=…] [--start-period=…]
// [--start-interval=…] [--retries=…] CMD and a command in the exec or the shell form.
func healthCheck(c *moss.ContainerConfig, rest string) error {
	h := &moss.Healthcheck{}
	flags := false
	for strings.HasPrefix(rest, "--") {
		flag, more, _ := strings.Cut(rest, " ")
		if err := healthFlag(h, flag); err != nil {
			return err
		}
		flags, rest = true, strings.TrimSpace(more)
	}
	word, command, _ := strings.Cut(rest, " ")
	command = strings.TrimSpace(command)
	switch strings.ToUpper(word) {
	case moss.TestNone:
		if command != "" || flags {
			return errors.New("NONE takes no arguments")
		}
		h.Test = []string{moss.TestNone}
	case moss.TestCommand:
		words, exec := jsonWords(command)
		switch {
		case command == "" || exec && len(words) == 0:
			return errors.New("there is no command after CMD")
		case exec:
			h.Test = append([]string{moss.TestCommand}, words...)
		default:
			h.Test = []string{moss.TestShell, command}
		}
	default:
		return fmt.Errorf("unknown type %q: it is CMD or NONE", word)
	}
	c.Healthcheck = h
	return nil
}

// leastHealth is docker's least time of a health check.
const leastHealth = time.Millisecond

func healthFlag(h *moss.Healthcheck, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	if name == "--retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("%s is no number of retries", flag)
		}
		h.Retries = n
		return nil
	}
	to, ok := map[string]*time.Duration{
		"--interval": &h.Interval, "--timeout": &h.Timeout, "--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval,
	}[name]
	if !ok {
		return fmt.Errorf("unknown flag %s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d != 0 && d < leastHealth {
		return fmt.Errorf("%s is no time of at least %s", flag, leastHealth)
	}
	*to = d
	return nil
}
