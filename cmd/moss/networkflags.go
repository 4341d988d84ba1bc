package main

import (
	"encoding/csv"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/urfave/cli/v2"
)

func networkFlags() []cli.Flag {
	return []cli.Flag{
		newStringFlag("IPv4 `ADDRESS`", "ip"),
		newStringFlag("IPv6 `ADDRESS`", "ip6"),
		newListFlag("further `ADDRESS` of the link, 169.254.… or fe80:…", "link-local-ip"),
		newStringFlag("hardware `ADDRESS`", "mac-address"),
		newListFlag("`NETWORK`: bridge, none, host or one of yours; also as name=NETWORK[,alias=…][,ip=…][,ip6=…][,mac-address=…][,gw-priority=…][,link-local-ip=…][,driver-opt=KEY=VALUE]", "network", "net"),
		newListFlag("further `NAME` of the container in the network", "network-alias", "net-alias"),
	}
}

// networkConfig reads the networks; --ip and its like are for the first one.
func networkConfig(c *cli.Context) (container.NetworkMode, *network.NetworkingConfig, error) {
	mode := container.NetworkMode("default")
	ends := map[string]*network.EndpointSettings{}
	alone := "" // what is no network among others
	for i, arg := range c.StringSlice("network") {
		name, end, err := networkArg(arg)
		if err != nil {
			return "", nil, err
		}
		if i == 0 {
			mode = container.NetworkMode(name)
		}
		if _, twice := ends[name]; twice {
			return "", nil, fmt.Errorf("network %q is specified multiple times", name)
		}
		ends[name] = end
		if m := container.NetworkMode(name); m.IsHost() || m.IsNone() || m.IsContainer() {
			alone = name
		}
	}
	if alone != "" && len(ends) > 1 {
		return "", nil, fmt.Errorf("conflicting options: cannot attach to %s and to other networks", alone)
	}
	first := ends[string(mode)]
	if first == nil {
		first = &network.EndpointSettings{}
		ends[string(mode)] = first
	}
	if mode.IsUserDefined() { // there a link is a name; on the default network it is HostConfig's
		first.Links = append(first.Links, c.StringSlice("link")...)
	}
	first.Aliases = append(first.Aliases, c.StringSlice("network-alias")...)
	if err := addAddresses(first, c.String("ip"), c.String("ip6")); err != nil {
		return "", nil, err
	}
	for _, s := range c.StringSlice("link-local-ip") {
		if err := addLinkLocal(first, s); err != nil {
			return "", nil, err
		}
	}
	if s := c.String("mac-address"); s != "" {
		if err := addMAC(first, s); err != nil {
			return "", nil, err
		}
	}
	return mode, &network.NetworkingConfig{EndpointsConfig: ends}, nil
}

// addLinkLocal asks for a further address; the engine looks whether it is such a one.
func addLinkLocal(end *network.EndpointSettings, s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return fmt.Errorf("invalid link-local IP address %q: %w", s, err)
	}
	if end.IPAMConfig == nil {
		end.IPAMConfig = &network.EndpointIPAMConfig{}
	}
	end.IPAMConfig.LinkLocalIPs = append(end.IPAMConfig.LinkLocalIPs, a)
	return nil
}

// networkArg reads NAME, or name=NAME and what else is wished for.
func networkArg(arg string) (string, *network.EndpointSettings, error) {
	end := &network.EndpointSettings{}
	if !strings.Contains(arg, "=") {
		return arg, end, nil
	}
	fields, err := csv.NewReader(strings.NewReader(arg)).Read()
	if err != nil {
		return "", nil, fmt.Errorf("cannot use --network %q: %w", arg, err)
	}
	var name, ip, ip6 string
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		switch strings.ToLower(k) {
		case "name":
			name = v
		case "alias":
			end.Aliases = append(end.Aliases, v)
		case "ip":
			ip = v
		case "ip6":
			ip6 = v
		case "mac-address":
			err = addMAC(end, v)
		case "link-local-ip":
			err = addLinkLocal(end, v)
		case "gw-priority":
			end.GwPriority, err = strconv.Atoi(v)
		case "driver-opt":
			key, value, _ := strings.Cut(v, "=")
			if end.DriverOpts == nil {
				end.DriverOpts = map[string]string{}
			}
			end.DriverOpts[key] = value
		default:
			err = fmt.Errorf("invalid field key %s", k)
		}
		if err != nil {
			return "", nil, fmt.Errorf("cannot use --network %q: %w", arg, err)
		}
	}
	if name == "" {
		return "", nil, fmt.Errorf("cannot use --network %q: network name is not specified", arg)
	}
	return name, end, addAddresses(end, ip, ip6)
}

func addAddresses(end *network.EndpointSettings, ip, ip6 string) error {
	for flag, text := range map[string]string{"ip": ip, "ip6": ip6} {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is4() != (flag == "ip") {
			return fmt.Errorf("cannot use --%s %q: it is no such IP address", flag, text)
		}
		if end.IPAMConfig == nil {
			end.IPAMConfig = &network.EndpointIPAMConfig{}
		}
		if flag == "ip" {
			end.IPAMConfig.IPv4Address = a
		} else {
			end.IPAMConfig.IPv6Address = a
		}
	}
	return nil
}

func addMAC(end *network.EndpointSettings, text string) error {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return fmt.Errorf("cannot use --mac-address %q: it is no hardware address", text)
	}
	end.MacAddress = network.HardwareAddr(mac)
	return nil
}
