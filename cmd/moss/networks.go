package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) networkCommands() []*cli.Command {
	return []*cli.Command{group("network", "commands for networks",
		command("create", "NETWORK", "make a network", 1, 1, []cli.Flag{
			&cli.BoolFlag{Name: "attachable", Usage: "kept for docker's sake: containers can be attached to every network"},
			&cli.StringSliceFlag{Name: "aux-address", Usage: "address that no container gets, `NAME=ADDRESS`"},
			&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "bridge", Usage: "`DRIVER` of the network"},
			&cli.StringSliceFlag{Name: "gateway", Usage: "the bridge's own `ADDRESS` in a subnet"},
			&cli.BoolFlag{Name: "internal", Usage: "no way out"},
			&cli.StringSliceFlag{Name: "ip-range", Usage: "give addresses from this part of a subnet, `ADDRESS/BITS`"},
			&cli.BoolFlag{Name: "ipv4", Value: true, Usage: "with IPv4 addresses"},
			&cli.BoolFlag{Name: "ipv6", Usage: "with IPv6 addresses"},
			&cli.StringSliceFlag{Name: "label", Usage: "label `KEY[=VALUE]`"},
			&cli.StringSliceFlag{Name: "opt", Aliases: []string{"o"}, Usage: "option of the driver, `KEY=VALUE`"},
			&cli.StringSliceFlag{Name: "subnet", Usage: "subnet, `ADDRESS/BITS`"},
		}, a.networkCreate),
		named(command("ls", "", "list networks", 0, 0, listFlags(), a.networkList), "ls", "list"),
		command("inspect", "NETWORK…", "tell all of networks", 1, -1, []cli.Flag{
			formatFlag(),
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "kept for docker's sake: there is no more to tell"},
		}, a.networkInspect),
		named(command("rm", "NETWORK…", "remove networks", 1, -1, []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "one that is not there is no failure"},
		}, a.networkRemove), "rm", "remove"),
		command("prune", "", "remove the networks that no container is attached to", 0, 0, pruneFilterFlags(), a.networkPrune),
		command("connect", "NETWORK CONTAINER", "attach a container to a further network", 2, 2, []cli.Flag{
			&cli.StringSliceFlag{Name: "alias", Usage: "further `NAME` of the container in the network"},
			&cli.StringSliceFlag{Name: "link-local-ip", Usage: "further `ADDRESS` of the link, 169.254.… or fe80:…"},
			&cli.StringSliceFlag{Name: "driver-opt", Usage: "option of the end point, `KEY=VALUE`"},
			&cli.IntFlag{Name: "gw-priority", Usage: "`NUMBER`; the network with the highest has the default route"},
			&cli.StringFlag{Name: "ip", Usage: "IPv4 `ADDRESS`"},
			&cli.StringFlag{Name: "ip6", Usage: "IPv6 `ADDRESS`"},
			&cli.StringSliceFlag{Name: "link", Usage: "another container under a name of this one's own, `NAME[:ALIAS]`"},
		}, a.networkConnect),
		command("disconnect", "NETWORK CONTAINER", "take a container out of a network", 2, 2, []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also where the network is gone"},
		}, a.networkDisconnect),
	)}
}

func (a *app) networkCreate(c *cli.Context) error {
	o := client.NetworkCreateOptions{
		Driver: c.String("driver"), Internal: c.Bool("internal"), Attachable: c.Bool("attachable"),
		Options: toMap(c.StringSlice("opt")), Labels: toMap(c.StringSlice("label")),
	}
	for name, to := range map[string]**bool{"ipv4": &o.EnableIPv4, "ipv6": &o.EnableIPv6} {
		if c.IsSet(name) {
			v := c.Bool(name)
			*to = &v
		}
	}
	configs, err := ipamConfigs(c)
	if err != nil {
		return err
	}
	o.IPAM = &network.IPAM{Driver: "default", Config: configs}
	api, err := a.api()
	if err != nil {
		return err
	}
	made, err := api.NetworkCreate(c.Context, c.Args().First(), o)
	if err != nil {
		return err
	}
	for _, w := range made.Warning {
		fmt.Fprintln(a.err, "WARNING: "+w)
	}
	fmt.Fprintln(a.out, made.ID)
	return nil
}

// ipamConfigs puts ranges, gateways and reserved addresses to the subnet each is in.
func ipamConfigs(c *cli.Context) ([]network.IPAMConfig, error) {
	var out []network.IPAMConfig
	for _, s := range c.StringSlice("subnet") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("cannot use --subnet %q: it is no ADDRESS/BITS", s)
		}
		out = append(out, network.IPAMConfig{Subnet: p})
	}
	subnetOf := func(flag, value string, in netip.Addr) (*network.IPAMConfig, error) {
		for i := range out {
			if out[i].Subnet.Contains(in) {
				return &out[i], nil
			}
		}
		return nil, fmt.Errorf("cannot use --%s %q: no matching subnet", flag, value)
	}
	for _, s := range c.StringSlice("ip-range") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("cannot use --ip-range %q: it is no ADDRESS/BITS", s)
		}
		cfg, err := subnetOf("ip-range", s, p.Addr())
		if err != nil {
			return nil, err
		}
		cfg.IPRange = p
	}
	for _, s := range c.StringSlice("gateway") {
		g, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("cannot use --gateway %q: it is no IP address", s)
		}
		cfg, err := subnetOf("gateway", s, g)
		if err != nil {
			return nil, err
		}
		cfg.Gateway = g
	}
	for _, kv := range c.StringSlice("aux-address") {
		name, s, _ := strings.Cut(kv, "=")
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("cannot use --aux-address %q: it is no NAME=ADDRESS", kv)
		}
		cfg, err := subnetOf("aux-address", kv, addr)
		if err != nil {
			return nil, err
		}
		if cfg.AuxAddress == nil {
			cfg.AuxAddress = map[string]netip.Addr{}
		}
		cfg.AuxAddress[name] = addr
	}
	return out, nil
}

var networkColumns = []column{
	{"ID", "NETWORK ID"},
	{"Name", "NAME"},
	{"Driver", "DRIVER"},
	{"Scope", "SCOPE"},
	{"IPv4", "IPV4"},
	{"IPv6", "IPV6"},
	{"Internal", "INTERNAL"},
	{"Labels", "LABELS"},
	{"CreatedAt", "CREATED AT"},
}

func (a *app) networkList(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	f, err := filters(c)
	if err != nil {
		return err
	}
	list, err := api.NetworkList(c.Context, client.NetworkListOptions{Filters: f})
	if err != nil {
		return err
	}
	slices.SortFunc(list.Items, func(x, y network.Summary) int { return strings.Compare(x.Name, y.Name) })
	rows := make([]map[string]string, len(list.Items))
	for i, n := range list.Items {
		id := n.ID
		if !c.Bool("no-trunc") {
			id = id[:min(12, len(id))]
		}
		rows[i] = addLabels(map[string]string{
			"ID": id, "Name": n.Name, "Driver": n.Driver, "Scope": n.Scope, "Internal": strconv.FormatBool(n.Internal),
			"IPv4": strconv.FormatBool(n.EnableIPv4), "IPv6": strconv.FormatBool(n.EnableIPv6),
			"CreatedAt": n.Created.Local().Format("2006-01-02 15:04:05.999999999 -0700 MST"),
		}, n.Labels)
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return printRows(a.out, format, "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", networkColumns, rows)
}

func (a *app) networkInspect(c *cli.Context) error { return a.inspectKind(c, "network") }

func (a *app) networkRemove(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	return a.each(c, func(ref string) error {
		_, err := api.NetworkRemove(c.Context, ref, client.NetworkRemoveOptions{})
		if errdefs.IsNotFound(err) && c.Bool("force") {
			return nil
		}
		return err
	})
}

func (a *app) networkPrune(c *cli.Context) error {
	f, err := filters(c)
	if err != nil {
		return err
	}
	if err := a.confirm(c, "This will remove all custom networks not used by at least one container."); err != nil {
		return err
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.NetworkPrune(c.Context, client.NetworkPruneOptions{Filters: f})
	a.removed("Networks", got.Report.NetworksDeleted)
	return err
}

func (a *app) networkConnect(c *cli.Context) error {
	end := network.EndpointSettings{Aliases: c.StringSlice("alias"), GwPriority: c.Int("gw-priority"), DriverOpts: toMap(c.StringSlice("driver-opt")), Links: c.StringSlice("link")}
	if err := addAddresses(&end, c.String("ip"), c.String("ip6")); err != nil {
		return err
	}
	for _, s := range c.StringSlice("link-local-ip") {
		if err := addLinkLocal(&end, s); err != nil {
			return err
		}
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.NetworkConnect(c.Context, c.Args().First(), client.NetworkConnectOptions{Container: c.Args().Get(1), EndpointConfig: &end})
	return err
}

func (a *app) networkDisconnect(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	_, err = api.NetworkDisconnect(c.Context, c.Args().First(), client.NetworkDisconnectOptions{Container: c.Args().Get(1), Force: c.Bool("force")})
	return err
}
