package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

// limit is a limit that update has a flag for, named as runc's.
type limit struct {
	name, usage string
	set         func(r *specs.LinuxResources, value string) error
}

var limitFlags = []limit{
	{"blkio-weight", "relative weight of disk access, 10 to 1000", func(r *specs.LinuxResources, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		if err == nil && (n < 10 || n > 1000) {
			err = errors.New("it must be from 10 to 1000")
		}
		weight := uint16(n)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
		return err
	}},
	{"cpu-burst", "microseconds a period may take of those that earlier ones left", number(func(r *specs.LinuxResources) **uint64 { return &r.CPU.Burst })},
	{"cpu-idle", "1: run only where nothing else wants to, 0: as others", number(func(r *specs.LinuxResources) **int64 { return &r.CPU.Idle })},
	{"cpu-period", "length of a period, microseconds", number(func(r *specs.LinuxResources) **uint64 { return &r.CPU.Period })},
	{"cpu-quota", "processor time in a period, microseconds; -1 for no limit", number(func(r *specs.LinuxResources) **int64 { return &r.CPU.Quota })},
	{"cpu-share", "relative weight of processor time, 2 to 262144", number(func(r *specs.LinuxResources) **uint64 { return &r.CPU.Shares })},
	{"cpuset-cpus", "processors to run on, 0-3,5", func(r *specs.LinuxResources, v string) error { r.CPU.Cpus = v; return nil }},
	{"cpuset-mems", "memory nodes to use, 0-3,5", func(r *specs.LinuxResources, v string) error { r.CPU.Mems = v; return nil }},
	{"memory", "memory, bytes or with a unit (512m); -1 for no limit", size(func(r *specs.LinuxResources) **int64 { return &r.Memory.Limit })},
	{"memory-reservation", "memory that is not taken away from it, bytes or with a unit", size(func(r *specs.LinuxResources) **int64 { return &r.Memory.Reservation })},
	{"memory-swap", "memory and swap together, bytes or with a unit; -1 for no limit of swap", size(func(r *specs.LinuxResources) **int64 { return &r.Memory.Swap })},
	{"pids-limit", "number of processes and threads; -1 for no limit", func(r *specs.LinuxResources, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		r.Pids = &specs.LinuxPids{Limit: &n}
		return err
	}},
}

func number[T int64 | uint64](field func(*specs.LinuxResources) **T) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error {
		var n T
		if err := json.Unmarshal([]byte(v), &n); err != nil || v == "null" {
			return errors.New("it is no whole number in range")
		}
		*field(r) = &n
		return nil
	}
}

func size(field func(*specs.LinuxResources) **int64) func(*specs.LinuxResources, string) error {
	return func(r *specs.LinuxResources, v string) error {
		n, err := int64(-1), error(nil)
		if v != "-1" {
			n, err = units.RAMInBytes(v)
		}
		*field(r) = &n
		return err
	}
}

// limitsOf are the limits asked for, by file (- for stdin) or by flags.
func limitsOf(c *cli.Context) (*specs.LinuxResources, error) {
	asked := map[string]string{}
	for _, l := range limitFlags {
		if c.IsSet(l.name) {
			asked[l.name] = c.String(l.name)
		}
	}
	file := c.String("resources")
	switch {
	case file == "" && len(asked) == 0:
		return nil, errors.New("no limit is given: use --resources or a flag for it")
	case file == "":
		return limitsByFlags(asked)
	case len(asked) > 0:
		return nil, errors.New("--resources and a flag for a limit are given: use one of them")
	}
	return limitsInFile(file)
}

func limitsByFlags(asked map[string]string) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}
	for _, l := range limitFlags {
		if v, ok := asked[l.name]; ok {
			if err := l.set(r, v); err != nil {
				return nil, fmt.Errorf("invalid --%s %q: %w", l.name, v, err)
			}
		}
	}
	return r, nil
}

func limitsInFile(file string) (*specs.LinuxResources, error) {
	in := os.Stdin
	if file != "-" {
		var err error
		if in, err = os.Open(file); err != nil {
			return nil, err
		}
		defer in.Close()
	}
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return nil, err
	}
	limits := &specs.LinuxResources{}
	if err := json.Unmarshal(data, limits); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(limits.Devices) > 0 {
		return nil, fmt.Errorf("%s: device rules need a privilege no user namespace has", file)
	}
	return limits, nil
}
