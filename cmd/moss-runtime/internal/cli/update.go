package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/bundle"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func updateCommand() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "change the limits of a running container",
		ArgsUsage: "CONTAINER",
		Description: "Limits of a container that lives in its unit's cgroup are better changed with\n" +
			"systemctl --user set-property: the manager may write its own values again.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "resources", Aliases: []string{"r"}, Required: true,
				Usage: "file with the limits as the runtime specification's linux.resources JSON, - for stdin",
			},
		},
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			if err := update(r, c.String("resources")); err != nil {
				return fmt.Errorf("cannot update container %q: %w", r.ID, err)
			}
			return nil
		},
	}
}

func update(r *record.Record, file string) error {
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
	in := os.Stdin
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return err
		}
		defer in.Close()
	}
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return err
	}
	limits := &specs.LinuxResources{}
	if err := json.Unmarshal(data, limits); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(limits.Devices) > 0 {
		return fmt.Errorf("%s: device rules need a privilege no user namespace has", file)
	}
	cg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		RootlessCgroups: true,
		Spec:            &specs.Spec{Linux: &specs.Linux{CgroupsPath: r.Cgroup, Resources: limits}},
	}, nil)
	if err != nil {
		return err
	}
	return bundle.SetResources(r.Cgroup, cg.Resources)
}
