package cli

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// containerState is the runtime specification's state and the two fields runc
// and crun add to it.
type containerState struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
}

func stateCommand() *cli.Command {
	return &cli.Command{
		Name:      "state",
		Usage:     "print the state of a container as JSON",
		ArgsUsage: "CONTAINER",
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			status, err := r.Status()
			if err != nil {
				return err
			}
			out := containerState{
				State: specs.State{
					Version:     r.OCIVersion,
					ID:          r.ID,
					Status:      specs.ContainerState(status),
					Bundle:      r.Bundle,
					Annotations: r.Annotations,
				},
				Rootfs:  r.Rootfs,
				Created: r.Created,
			}
			if status != record.Stopped {
				out.Pid = r.Pid
			}
			enc := json.NewEncoder(c.App.Writer)
			enc.SetIndent("", "  ")
			return enc.Encode(out)
		},
	}
}
