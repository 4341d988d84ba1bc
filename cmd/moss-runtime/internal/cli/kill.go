package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func killCommand() *cli.Command {
	return &cli.Command{
		Name:      "kill",
		Usage:     "send a signal (default SIGTERM) to the container's first process",
		ArgsUsage: "CONTAINER [SIGNAL]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "do not mind if the container has stopped"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return fmt.Errorf("kill takes a container id and a signal; got %d arguments", c.NArg())
			}
			sig := unix.SIGTERM
			if s := c.Args().Get(1); s != "" {
				var err error
				if sig, err = parseSignal(s); err != nil {
					return err
				}
			}
			r, err := loadID(c, c.Args().First())
			if err != nil {
				return err
			}
			err = kill(r, sig)
			if errors.Is(err, record.ErrNotRunning) && c.Bool("all") {
				return nil
			}
			if err != nil {
				return fmt.Errorf("cannot kill container %q: %w", r.ID, err)
			}
			return nil
		},
	}
}

// kill signals the container's first process. SIGKILL ends all the others too:
// the kernel sees to it in a pid namespace, the cgroup does elsewhere.
func kill(r *record.Record, sig unix.Signal) error {
	if sig == unix.SIGKILL && !r.PrivatePID && r.OwnCgroup {
		status, err := r.Status()
		if err != nil {
			return err
		}
		if status == record.Stopped {
			return record.ErrNotRunning
		}
		return cgroup.Kill(r.Cgroup)
	}
	return r.Signal(sig)
}

const (
	sigRTMin = 34 // as libc numbers them: it keeps 32 and 33 for itself
	sigRTMax = 64
)

// parseSignal reads a number or a name, with or without SIG, RTMIN+n included.
func parseSignal(s string) (unix.Signal, error) {
	unknown := fmt.Errorf("unknown signal %q", s)
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > sigRTMax {
			return 0, unknown
		}
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": sigRTMin, "SIGRTMAX": sigRTMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				return 0, unknown
			}
		}
		if n := base + offset; n >= sigRTMin && n <= sigRTMax {
			return unix.Signal(n), nil
		}
	}
	return 0, unknown
}
