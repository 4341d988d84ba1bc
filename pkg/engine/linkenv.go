package engine

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// linkEnv is the environment that a link is worth, docker's: what the other
// container exposes and its own environment, under the alias.
func linkEnv(l link) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(l.alias, "-", "_"))
	var env []string
	set := func(name, value string) { env = append(env, prefix+"_"+name+"="+value) }

	i, _ := onDefault(l.to)
	address := i.Address.Addr().String()
	if !i.Address.IsValid() {
		address = "[" + i.Address6.Addr().String() + "]"
	}
	bare := strings.Trim(address, "[]")
	url := func(p moss.Port) string { return string(p.Proto) + "://" + address + ":" + number(p) }

	ports := slices.Clone(l.to.Config.ExposedPorts)
	slices.SortFunc(ports, func(a, b moss.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(protocolOrder(a.Proto), protocolOrder(b.Proto)))
	})
	if len(ports) > 0 {
		set("PORT", url(ports[0]))
	}
	for _, run := range portRuns(ports) {
		first, last := run[0], run[len(run)-1]
		name := portName(first)
		set(name+"_START", url(first))
		set(name+"_PORT_START", number(first))
		set(name+"_END", url(last))
		set(name+"_PORT_END", number(last))
	}
	for _, p := range ports {
		name := portName(p)
		set(name, url(p))
		set(name+"_ADDR", bare)
		set(name+"_PORT", number(p))
		set(name+"_PROTO", string(p.Proto))
	}
	set("NAME", "/"+l.path())
	for _, v := range l.to.Config.Env {
		// Those two come with images, and say nothing of the other.
		if name, value, ok := strings.Cut(v, "="); ok && name != "HOME" && name != "PATH" {
			set("ENV_"+name, value)
		}
	}
	return env
}

func number(p moss.Port) string { return strconv.Itoa(int(p.Number)) }

func portName(p moss.Port) string {
	return "PORT_" + number(p) + "_" + strings.ToUpper(string(p.Proto))
}

func protocolOrder(p moss.Protocol) int {
	return slices.Index([]moss.Protocol{moss.TCP, moss.UDP, moss.SCTP}, p)
}

// portRuns are the stretches of two and more ports in a row, of one protocol,
// that stand side by side in a sorted list.
func portRuns(ports []moss.Port) [][]moss.Port {
	var runs [][]moss.Port
	for i := 0; i < len(ports); {
		j := i + 1
		for j < len(ports) && ports[j].Proto == ports[i].Proto && ports[j].Number == ports[j-1].Number+1 {
			j++
		}
		if j-i > 1 {
			runs = append(runs, ports[i:j])
		}
		i = j
	}
	return runs
}
