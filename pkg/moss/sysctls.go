package moss

import (
	"regexp"
	"strings"
	"sync"
)

// EndpointSysctls is docker's driver option of an end point with kernel
// parameters of its link: net.ipv4.conf.IFNAME.log_martians=1, and more after commas.
const EndpointSysctls = "com.docker.network.endpoint.sysctls"

// Sysctl is a kernel parameter, by its path below /proc/sys.
type Sysctl struct{ Path, Value string }

// Docker's client makes driver options lower-case. Compiled when it is asked for: the client is linked with it, and starts often.
var linkSysctl = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?:IFNAME|ifname)\.([a-z0-9_]+)$`)
})

// ParseSysctls reads the value of EndpointSysctls for a link. Errors: Invalid.
func ParseSysctls(value, link string) ([]Sysctl, error) {
	var out []Sysctl
	for s := range strings.SplitSeq(value, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(s), "=")
		m := linkSysctl().FindStringSubmatch(name)
		if !ok || m == nil || v == "" {
			return nil, Errorf(Invalid, "invalid endpoint settings:\ninvalid sysctl %q in %s: want net.ipv4.conf.IFNAME.NAME=VALUE, with IFNAME as it stands, or the like of ipv6, mpls and neigh", s, EndpointSysctls)
		}
		out = append(out, Sysctl{Path: strings.Join([]string{"net", m[1], m[2], link, m[3]}, "/"), Value: v})
	}
	return out, nil
}
