package moss

import "regexp"

// EndpointIfname is docker's driver option of an end point with the name of its
// link in the container; without one it is eth0, eth1, ….
const EndpointIfname = "com.docker.network.endpoint.ifname"

// What the kernel takes, without what it would read as a pattern or an alias.
var linkName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$`)

// CheckIfname says whether a link can have the name. Errors: Invalid.
func CheckIfname(name string) error {
	if linkName.MatchString(name) && name != "lo" && name != "all" && name != "default" {
		return nil
	}
	return Errorf(Invalid, "invalid endpoint settings:\ninvalid value %q for %s: it is no name of a link, such as eth7 or backend", name, EndpointIfname)
}
