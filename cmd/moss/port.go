package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

func (a *app) port(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.ContainerInspect(c.Context, c.Args().First(), client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	var open network.PortMap
	if s := got.Container.NetworkSettings; s != nil {
		open = s.Ports
	}
	if c.NArg() == 1 {
		fmt.Fprint(a.out, allPorts(open))
		return nil
	}
	want := c.Args().Get(1)
	p, err := network.ParsePort(want)
	if err != nil {
		return fmt.Errorf("cannot use the port %q: %w", want, err)
	}
	if len(open[p]) == 0 {
		return fmt.Errorf("no public port '%s' published for %s", p, c.Args().First())
	}
	for _, b := range open[p] {
		fmt.Fprintln(a.out, published(b))
	}
	return nil
}

// allPorts has a line for each place a port is published at, by the container's port.
func allPorts(open network.PortMap) string {
	var b strings.Builder
	for _, p := range slices.SortedFunc(maps.Keys(open), func(x, y network.Port) int {
		return cmp.Or(cmp.Compare(x.Num(), y.Num()), strings.Compare(string(x.Proto()), string(y.Proto())))
	}) {
		for _, at := range open[p] {
			fmt.Fprintf(&b, "%s -> %s\n", p, published(at))
		}
	}
	return b.String()
}

// published is where a port is published, as docker port has it.
func published(b network.PortBinding) string {
	port, err := strconv.ParseUint(b.HostPort, 10, 16)
	if err != nil || !b.HostIP.IsValid() {
		return b.HostIP.String() + ":" + b.HostPort
	}
	return netip.AddrPortFrom(b.HostIP, uint16(port)).String()
}
