package moss

import "strings"

// EndpointIfname is docker's driver option of an end point with the name of its
// link in the container; without one it is eth0, eth1, ….
const EndpointIfname = "com.docker.network.endpoint.ifname"

// longestIfname is what the kernel has room for (IFNAMSIZ), in bytes.
const longestIfname = 15

// CheckIfname says whether a link can have the name. Errors: Invalid.
func CheckIfname(name string) error {
	if isLinkName(name) && name != "lo" && name != "all" && name != "default" {
		return nil
	}
	return Errorf(Invalid, "invalid endpoint settings:\ninvalid value %q for %s: it is no name of a link, such as eth7 or backend", name, EndpointIfname)
}

// isLinkName leaves out of what the kernel takes that which it would read as a pattern or an alias.
func isLinkName(s string) bool {
	if s == "" || len(s) > longestIfname || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	}) < 0
}
