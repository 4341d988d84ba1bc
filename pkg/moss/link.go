package moss

import (
	"net/netip"
	"path"
	"strings"
)

// Link is docker's legacy link: another container under a name of one's own.
type Link struct {
	Container string `json:",omitzero"` // a name or id; in the record of a container on the default network its id
	Alias     string `json:",omitzero"`
}

// ParseLink reads NAME[:ALIAS], or what inspect tells of a link, /NAME:/OWNER/ALIAS.
func ParseLink(s string) (Link, error) {
	if s == "" {
		return Link{}, Errorf(Invalid, "empty string specified for links")
	}
	name, alias, ok := strings.Cut(s, ":")
	if !ok {
		alias = name
	}
	if inspected, ok := strings.CutPrefix(name, "/"); ok {
		name, alias = inspected, path.Base(alias)
	}
	if name == "" || alias == "" || alias == "." || strings.ContainsAny(alias, "/: \t\r\n#") {
		return Link{}, Errorf(Invalid, "bad format for links: %s", s)
	}
	return Link{Container: name, Alias: alias}, nil
}

// LinkedHost is a linked container as /etc/hosts has it.
type LinkedHost struct {
	Names     []string     // the alias first
	Addresses []netip.Addr // none where there is nothing to reach
}
