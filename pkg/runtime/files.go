package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// hostGateway is docker's word for the host's address in an extra host.
const hostGateway = "host-gateway"

// hostsFile is a container's /etc/hosts (hosts(5)). In the host's network it
// starts with the host's own text.
func hostsFile(b moss.Bundle, host []byte) ([]byte, error) {
	c, a := b.Container, b.Attachment
	var buf bytes.Buffer
	if a.Mode == moss.NetworkHost {
		buf.Write(host)
		if len(host) > 0 && !bytes.HasSuffix(host, []byte("\n")) {
			buf.WriteByte('\n')
		}
	} else {
		buf.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\n" +
			"ff02::2\tip6-allrouters\n")
	}
	for _, extra := range c.Host.ExtraHosts {
		line, err := extraHost(extra, a)
		if err != nil {
			return nil, err
		}
		buf.WriteString(line)
	}
	for _, line := range linkLines(b.Links) {
		buf.WriteString(line)
	}
	names := c.Config.Hostname
	if c.Config.Domainname != "" {
		names = c.Config.Hostname + "." + c.Config.Domainname + " " + names
	}
	for _, i := range append([]moss.Interface{a.Interface}, a.Others...) {
		for _, own := range []netip.Prefix{i.Address, i.Address6} {
			if own.IsValid() && names != "" {
				fmt.Fprintf(&buf, "%s\t%s\n", own.Addr(), names)
			}
		}
	}
	return buf.Bytes(), nil
}

// extraHost are the lines of one "name:address".
func extraHost(extra string, a moss.Attachment) (string, error) {
	name, address, ok := strings.Cut(extra, ":")
	if !ok || name == "" || strings.ContainsAny(extra, " \t\n") {
		return "", moss.Errorf(moss.Invalid, "invalid extra host %q: it must be NAME:ADDRESS or NAME:%s", extra, hostGateway)
	}
	if address == hostGateway {
		if a.Mode == moss.NetworkHost {
			return "127.0.0.1\t" + name + "\n", nil
		}
		if !a.HostIP.IsValid() {
			return "", moss.Errorf(moss.Invalid,
				"invalid extra host %q: the host cannot be reached from this network; give an address of the host, or use --network host", extra)
		}
		lines := a.HostIP.String() + "\t" + name + "\n"
		if a.HostIP2.IsValid() {
			lines += a.HostIP2.String() + "\t" + name + "\n"
		}
		return lines, nil
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	if err != nil {
		return "", moss.Errorf(moss.Invalid, "invalid extra host %q: %w", extra, err)
	}
	return ip.String() + "\t" + name + "\n", nil
}

// resolvFile is a container's /etc/resolv.conf (resolv.conf(5)): what the user
// asks for, else what the network has, else, of search domains and options, what
// the host has. In the host's network all of it is the host's, with the choices
// in place of its own.
func resolvFile(c moss.Container, a moss.Attachment, host []byte) []byte {
	servers, search, options := c.Host.DNS, c.Host.DNSSearch, c.Host.DNSOptions
	embedded := len(a.DNS) == 1 && a.DNS[0] == moss.ResolverAddr
	if embedded {
		servers = nil // the resolver asks them
	}
	if len(servers) == 0 {
		servers = a.DNS
	}
	if len(search) == 0 {
		search = a.Search
	}
	if len(options) == 0 {
		options = a.Options
	}
	if a.Mode == moss.NetworkHost && len(servers)+len(search)+len(options) == 0 {
		return host
	}
	var base resolvConf
	if a.Mode == moss.NetworkNone {
		search, options = c.Host.DNSSearch, c.Host.DNSOptions // there is nobody to ask, unless the user knows one
	} else {
		base = parseResolv(host)
	}
	if a.Mode != moss.NetworkHost || len(servers) > 0 { // the host's may be at its loopback address
		base.servers = nil
		for _, s := range servers {
			base.servers = append(base.servers, s.String())
		}
	}
	if len(search) > 0 {
		base.search = search
	}
	if len(options) > 0 {
		base.options = options
	}
	// The first try is the name as it is: names of containers have no dot.
	if embedded && !slices.ContainsFunc(base.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		base.options = append(slices.Clone(base.options), "ndots:0")
	}
	return base.text()
}

type resolvConf struct{ servers, search, options []string }

func parseResolv(data []byte) resolvConf {
	var r resolvConf
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.servers = append(r.servers, fields[1])
		case "search", "domain":
			r.search = fields[1:] // the last one counts
		case "options":
			r.options = append(r.options, fields[1:]...)
		}
	}
	return r
}

func (r resolvConf) text() []byte {
	var buf bytes.Buffer
	for _, s := range r.servers {
		buf.WriteString("nameserver " + s + "\n")
	}
	// Docker's way to say "no search list".
	if len(r.search) > 0 && !slices.Equal(r.search, []string{"."}) {
		buf.WriteString("search " + strings.Join(r.search, " ") + "\n")
	}
	if len(r.options) > 0 {
		buf.WriteString("options " + strings.Join(r.options, " ") + "\n")
	}
	return buf.Bytes()
}

// writeFiles writes the files of the bundle that are bound into /etc.
func writeFiles(b moss.Bundle) error {
	if _, shared := b.Attachment.Mode.Joins(); shared {
		return nil // they are the other container's
	}
	var hostHosts []byte
	if b.Attachment.Mode == moss.NetworkHost {
		var err error
		if hostHosts, err = readOptional("/etc/hosts"); err != nil {
			return err
		}
	}
	hostResolv, err := readOptional("/etc/resolv.conf")
	if err != nil {
		return err
	}
	hosts, err := hostsFile(b, hostHosts)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{b.Hosts, hosts},
		{b.Hostname, []byte(b.Container.Config.Hostname + "\n")},
		{b.Resolv, resolvFile(b.Container, b.Attachment, hostResolv)},
	} {
		if f.path == "" {
			continue
		}
		if err := writeFile(f.path, f.data, 0o644); err != nil {
			return err
		}
		if err := giveToRoot(f.path, b.Container.IDMaps); err != nil {
			return err
		}
	}
	return nil
}

// giveToRoot makes a file that of root in a container that has a user namespace
// of its own, as it is of root in others.
func giveToRoot(path string, m *moss.IDMaps) error {
	if m == nil {
		return nil
	}
	uid, known := moss.ToEngine(m.UIDs, 0)
	gid, alsoKnown := moss.ToEngine(m.GIDs, 0)
	if !known || !alsoKnown {
		return nil
	}
	if err := os.Chown(path, int(uid), int(gid)); err != nil {
		return fmt.Errorf("cannot give %s to the container's root: %w", path, err)
	}
	return nil
}

func readOptional(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the host's %s: %w", path, err)
	}
	return data, nil
}

// writeFile replaces a file at once or not at all. It is for files that are
// written anew at every start, so it does not wait for the disk.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // already failing
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}
