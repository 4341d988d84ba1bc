package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/bundle"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func updateCommand() *cli.Command {
	flags := []cli.Flag{&cli.StringFlag{
		Name: "resources", Aliases: []string{"r"},
		Usage: "file with the limits as the runtime specification's linux.resources JSON, - for stdin",
	}}
	for _, l := range limitFlags {
		flags = append(flags, &cli.StringFlag{Name: l.name, Usage: l.usage})
	}
	return &cli.Command{
		Name:      "update",
		Usage:     "change the limits of a running container",
		ArgsUsage: "CONTAINER",
		Description: "Limits of a container that lives in its unit's cgroup are better changed with\n" +
			"systemctl --user set-property: the manager may write its own values again.",
		Flags: flags,
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			limits, err := limitsOf(c)
			if err == nil {
				err = update(r, limits)
			}
			if err != nil {
				return fmt.Errorf("cannot update container %q: %w", r.ID, err)
			}
			return nil
		},
	}
}

func update(r *record.Record, limits *specs.LinuxResources) error {
	if !r.OwnCgroup {
		return errSharedCgroup
	}
	status, err := r.Status()
	if err != nil {
		return err
	}
	if status == record.Stopped {
		return record.ErrNotRunning
	}
	cg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		RootlessCgroups: true,
		Spec:            &specs.Spec{Linux: &specs.Linux{CgroupsPath: r.Cgroup, Resources: limits}},
	}, nil)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(filepath.Join(cgroup.Dir(r.Cgroup), "cpu.max"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keepOther(cg.Resources, string(now))
	return bundle.SetResources(r.Cgroup, cg.Resources)
}

// keepOther leaves of quota and period, which are one file, the one as it is
// that no limit is asked for. now is that file, cpu.max; empty for none.
func keepOther(r *cgroups.Resources, now string) {
	quota, period, ok := strings.Cut(strings.TrimSpace(now), " ")
	if !ok {
		return
	}
	if r.CpuQuota == 0 && r.CpuPeriod != 0 && quota != "max" {
		_, _ = fmt.Sscan(quota, &r.CpuQuota)
	}
	if r.CpuQuota != 0 && r.CpuPeriod == 0 {
		_, _ = fmt.Sscan(period, &r.CpuPeriod)
	}
}
