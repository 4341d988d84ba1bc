package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "list the processes of a container",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "table or json", Value: "table"},
		},
		Action: func(c *cli.Context) error {
			format := c.String("format")
			if format != "table" && format != "json" {
				return fmt.Errorf("unknown --format %q: table or json", format)
			}
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			pids, err := processes(r)
			if err != nil {
				return err
			}
			if format == "json" {
				return json.NewEncoder(c.App.Writer).Encode(pids)
			}
			w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "PID\tPPID\tUID\tCOMMAND")
			for _, pid := range pids {
				if p, ok := describe(pid); ok {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", pid, p.ppid, p.uid, p.command)
				}
			}
			return w.Flush()
		},
	}
}

// processes lists the container's processes as pids of the runtime's pid
// namespace, ascending.
func processes(r *record.Record) ([]int, error) {
	status, err := r.Status()
	if err != nil {
		return nil, err
	}
	if status == record.Stopped {
		return []int{}, nil
	}
	pids, err := cgroup.Pids(r.Cgroup)
	if err != nil {
		return nil, err
	}
	if !r.OwnCgroup {
		// Strangers live there too: those in another pid namespace are not ours.
		mine := pidNamespace(r.Pid)
		pids = slices.DeleteFunc(pids, func(pid int) bool { return pidNamespace(pid) != mine })
	}
	slices.Sort(pids)
	return pids, nil
}

// pidNamespace names the pid namespace of pid; "" if it has ended.
func pidNamespace(pid int) string {
	ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		return ""
	}
	return ns
}

type description struct{ ppid, uid, command string }

// describe reads what the table shows; false if the process has ended.
func describe(pid int) (description, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return description{}, false
	}
	args, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		args = nil // its name has to do
	}
	return described(string(status), string(args)), true
}

// described reads /proc/PID/status and cmdline. The names are the container's to
// choose, and go to a terminal.
func described(status, args string) description {
	var d description
	for line := range strings.SplitSeq(status, "\n") {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch key {
		case "Name":
			d.command = "[" + strings.TrimSpace(value) + "]"
		case "PPid":
			d.ppid = fields[0]
		case "Uid":
			d.uid = fields[0]
		}
	}
	if args := strings.TrimRight(args, "\x00"); args != "" {
		d.command = strings.ReplaceAll(args, "\x00", " ")
	}
	return description{ppid: visible(d.ppid), uid: visible(d.uid), command: visible(d.command)}
}

// visible has no control characters.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
