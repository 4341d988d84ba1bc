package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/types"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/bundle"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "print the container's figures as lines of JSON, and when the kernel killed for want of memory",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Usage: "`TIME` between figures", Value: 5 * time.Second},
			&cli.BoolFlag{Name: "stats", Usage: "the figures once"},
		},
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			if c.Duration("interval") <= 0 {
				return errors.New("--interval must be more than nothing")
			}
			if err := events(json.NewEncoder(c.App.Writer), r, c.Duration("interval"), c.Bool("stats")); err != nil {
				return fmt.Errorf("cannot tell of container %q: %w", r.ID, err)
			}
			return nil
		},
	}
}

// events writes figures until the container ends, or once.
func events(out *json.Encoder, r *record.Record, interval time.Duration, once bool) error {
	if !r.OwnCgroup {
		return errSharedCgroup
	}
	pidfd, err := r.Pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	ends := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	kills, first := uint64(0), true
	for {
		s, err := bundle.Stats(r.Cgroup)
		if err != nil {
			return err
		}
		n, err := cgroup.OOMKills(r.Cgroup)
		if err != nil {
			return err
		}
		if !first && n > kills {
			if err := out.Encode(types.Event{Type: "oom", ID: r.ID}); err != nil {
				return err
			}
		}
		kills, first = n, false
		if err := out.Encode(types.Event{Type: "stats", ID: r.ID, Data: figures(s)}); err != nil || once {
			return err
		}
		ended, err := unix.Poll(ends, int(interval.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ended > 0 {
			return nil
		}
	}
}

// figures are runc's, of what cgroup v2 knows.
func figures(s *cgroups.Stats) *types.Stats {
	out := &types.Stats{Hugetlb: map[string]types.Hugetlb{}}
	out.Pids = types.Pids{Current: s.PidsStats.Current, Limit: s.PidsStats.Limit}
	cpu := s.CpuStats
	out.CPU.Usage = types.CpuUsage{Total: cpu.CpuUsage.TotalUsage, Kernel: cpu.CpuUsage.UsageInKernelmode, User: cpu.CpuUsage.UsageInUsermode}
	out.CPU.Throttling = types.Throttling{
		Periods: cpu.ThrottlingData.Periods, ThrottledPeriods: cpu.ThrottlingData.ThrottledPeriods, ThrottledTime: cpu.ThrottlingData.ThrottledTime,
	}
	out.CPU.PSI = cpu.PSI
	entry := func(m cgroups.MemoryData) types.MemoryEntry {
		return types.MemoryEntry{Limit: m.Limit, Usage: m.Usage, Max: m.MaxUsage, Failcnt: m.Failcnt}
	}
	out.Memory = types.Memory{
		Cache: s.MemoryStats.Cache, Usage: entry(s.MemoryStats.Usage), Swap: entry(s.MemoryStats.SwapUsage),
		Kernel: entry(s.MemoryStats.KernelUsage), Raw: s.MemoryStats.Stats, PSI: s.MemoryStats.PSI,
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		out.Blkio.IoServiceBytesRecursive = append(out.Blkio.IoServiceBytesRecursive, types.BlkioEntry(b))
	}
	for _, b := range s.BlkioStats.IoServicedRecursive {
		out.Blkio.IoServicedRecursive = append(out.Blkio.IoServicedRecursive, types.BlkioEntry(b))
	}
	out.Blkio.PSI = s.BlkioStats.PSI
	return out
}
