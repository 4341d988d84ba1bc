package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// listed is a container as list shows it; the JSON names are runc's.
type listed struct {
	ID      string    `json:"id"`
	Pid     int       `json:"pid"`
	Status  string    `json:"status"`
	Bundle  string    `json:"bundle"`
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
}

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the containers of the state directory",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "table or json", Value: "table"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "ids only"},
		},
		Action: func(c *cli.Context) error {
			format := c.String("format")
			if format != "table" && format != "json" {
				return fmt.Errorf("unknown --format %q: table or json", format)
			}
			dir, err := root(c)
			if err != nil {
				return err
			}
			all, err := list(dir)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("quiet"):
				for _, l := range all {
					fmt.Fprintln(c.App.Writer, l.ID)
				}
				return nil
			case format == "json":
				return json.NewEncoder(c.App.Writer).Encode(all)
			}
			w := tabwriter.NewWriter(c.App.Writer, 12, 1, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED")
			for _, l := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", l.ID, l.Pid, l.Status, l.Bundle, l.Created.Format(time.RFC3339Nano))
			}
			return w.Flush()
		},
	}
}

// list reads the records; a container that is just being made or removed has none.
func list(dir string) ([]listed, error) {
	all := []listed{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		r, err := record.Load(dir, e.Name())
		if errors.Is(err, record.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		status, err := r.Status()
		if err != nil {
			return nil, err
		}
		l := listed{ID: r.ID, Pid: r.Pid, Status: string(status), Bundle: r.Bundle, Rootfs: r.Rootfs, Created: r.Created}
		if status == record.Stopped {
			l.Pid = 0
		}
		all = append(all, l)
	}
	return all, nil
}
