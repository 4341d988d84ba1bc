package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/version"
)

func (a *app) systemCommands() []*cli.Command {
	events := command("events", "", "print what happens", 0, 0, []cli.Flag{
		&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those for which `KEY=VALUE` holds"},
		&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE` or \"json\""},
		&cli.StringFlag{Name: "since", Usage: "from a `TIME` on, or as long ago"},
		&cli.StringFlag{Name: "until", Usage: "up to a `TIME`"},
	}, a.events)
	info := command("info", "", "tell of the engine", 0, 0, []cli.Flag{formatFlag()}, a.info)
	stdio := command("dial-stdio", "", "join stdin and stdout to the engine's socket, for docker -H ssh://", 0, 0, nil, a.dialStdio)
	stdio.Hidden = true
	return append([]*cli.Command{
		events, info, a.configCommand(),
		group("system", "commands for the engine as a whole",
			command("df", "", "tell what takes space on the disk", 0, 0, []cli.Flag{
				&cli.StringFlag{Name: "format", Usage: "Go `TEMPLATE`, \"json\", or \"table TEMPLATE\""},
				&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "each image and container"},
			}, a.df),
			events, info, a.bootTimesCommand(), stdio,
			command("prune", "", "remove what is not used", 0, 0, pruneFlags("all images that no container uses, not only those without a name",
				&cli.BoolFlag{Name: "volumes", Usage: "also anonymous volumes"},
			), a.pruneSystem),
			a.serviceCommand()),
		command("version", "", "tell the versions", 0, 0, []cli.Flag{formatFlag()}, a.version),
	}, a.setupCommands()...)
}

func (a *app) events(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	f, err := filters(c)
	if err != nil {
		return err
	}
	stream := api.Events(c.Context, client.EventsListOptions{Since: c.String("since"), Until: c.String("until"), Filters: f})
	for {
		select {
		case m := <-stream.Messages:
			if err := a.printEvent(c.String("format"), m); err != nil {
				return err
			}
		case err := <-stream.Err:
			if err != nil && err.Error() == "EOF" {
				return nil
			}
			return err
		}
	}
}

// event has beside what the API says today the fields that docker's --format
// knows and the API gave up in 1.52.
type event struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func shownEvent(m events.Message) event {
	e := event{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		e.Status, e.ID = string(m.Action), m.Actor.ID
	default: // the others never had them
	}
	return e
}

func (a *app) printEvent(format string, m events.Message) error {
	if format != "" {
		return printOne(a.out, format, shownEvent(m))
	}
	at := time.Unix(0, m.TimeNano)
	if m.TimeNano == 0 {
		at = time.Unix(m.Time, 0)
	}
	var attrs []string
	for k, v := range m.Actor.Attributes {
		attrs = append(attrs, k+"="+v)
	}
	slices.Sort(attrs)
	text := fmt.Sprintf("%s %s %s %s", at.Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, m.Action, m.Actor.ID)
	if len(attrs) > 0 {
		text += " (" + strings.Join(attrs, ", ") + ")"
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

func (a *app) info(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.Info(c.Context, client.InfoOptions{})
	if err != nil {
		return err
	}
	i := got.Info
	if f := c.String("format"); f != "" {
		return printOne(a.out, f, i)
	}
	w := a.out
	fmt.Fprintf(w, "Containers: %d\n Running: %d\n Paused: %d\n Stopped: %d\nImages: %d\n", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images)
	fmt.Fprintf(w, "Server Version: %s\nStorage Driver: %s\n", i.ServerVersion, i.Driver)
	for _, kv := range i.DriverStatus {
		fmt.Fprintf(w, " %s: %s\n", kv[0], kv[1])
	}
	fmt.Fprintf(w, "Logging Driver: %s\nCgroup Driver: %s\nCgroup Version: %s\n", i.LoggingDriver, i.CgroupDriver, i.CgroupVersion)
	var runtimes []string
	for name := range i.Runtimes {
		runtimes = append(runtimes, name)
	}
	slices.Sort(runtimes)
	fmt.Fprintf(w, "Runtimes: %s\nDefault Runtime: %s\n", strings.Join(runtimes, " "), i.DefaultRuntime)
	fmt.Fprintf(w, "Security Options: %s\n", strings.Join(i.SecurityOptions, " "))
	if len(i.DefaultAddressPools) > 0 {
		fmt.Fprintln(w, "Default Address Pools:")
		for _, p := range i.DefaultAddressPools {
			fmt.Fprintf(w, " Base: %s, Size: %d\n", p.Base, p.Size)
		}
	}
	if i.FirewallBackend != nil {
		fmt.Fprintf(w, "Firewall Backend: %s\n", i.FirewallBackend.Driver)
	}
	fmt.Fprintf(w, "Kernel Version: %s\nOperating System: %s\nOSType: %s\nArchitecture: %s\n", i.KernelVersion, i.OperatingSystem, i.OSType, i.Architecture)
	fmt.Fprintf(w, "CPUs: %d\nTotal Memory: %d MiB\nName: %s\nID: %s\nRoot Dir: %s\n", i.NCPU, i.MemTotal>>20, i.Name, i.ID, i.DockerRootDir)
	for _, warning := range i.Warnings {
		fmt.Fprintln(a.err, warning)
	}
	return nil
}

// versions is what version prints; the names are docker's.
type versions struct {
	Client clientVersion
	Server *client.ServerVersionResult
}

type clientVersion struct {
	Version, APIVersion, GoVersion, GitCommit, Os, Arch string
}

func (a *app) version(c *cli.Context) error {
	v := versions{Client: clientVersion{version.Version, client.MaxAPIVersion, runtime.Version(), version.Commit, runtime.GOOS, runtime.GOARCH}}
	api, err := a.api()
	if err != nil {
		return err
	}
	server, serverErr := api.ServerVersion(c.Context, client.ServerVersionOptions{})
	if serverErr == nil {
		v.Server = &server
	}
	if f := c.String("format"); f != "" {
		if err := printOne(a.out, f, v); err != nil && serverErr == nil { // else it says why there is no server
			return err
		}
		return serverErr
	}
	fmt.Fprintf(a.out, "Client:\n Version:     %s\n API version: %s\n Go version:  %s\n Git commit:  %s\n OS/Arch:     %s/%s\n",
		v.Client.Version, v.Client.APIVersion, v.Client.GoVersion, cmp.Or(v.Client.GitCommit, "unknown"), v.Client.Os, v.Client.Arch)
	if serverErr != nil {
		return serverErr
	}
	fmt.Fprintf(a.out, "\nServer: %s\n Version:     %s\n API version: %s (minimum version %s)\n OS/Arch:     %s/%s\n",
		server.Platform.Name, server.Version, server.APIVersion, server.MinAPIVersion, server.Os, server.Arch)
	for _, p := range server.Components {
		fmt.Fprintf(a.out, " %s:\n  Version:    %s\n", p.Name, p.Version)
	}
	return nil
}
