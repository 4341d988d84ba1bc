package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Listen is where and how the engine is reached: docker's keys.
type Listen struct {
	// Hosts are listened at beside the sockets that systemd passes: unix:///path or tcp://address:port.
	Hosts     []string `json:"hosts"`
	TLS       bool     `json:"tls"`       // at tcp hosts
	TLSVerify bool     `json:"tlsverify"` // only clients with a certificate of TLSCACert's; implies tls
	TLSCACert string   `json:"tlscacert"` // unless set, ca.pem, cert.pem and key.pem in the configuration directory
	TLSCert   string   `json:"tlscert"`
	TLSKey    string   `json:"tlskey"`
	// MetricsAddress is host:port for Prometheus; "" for none.
	MetricsAddress string `json:"metrics-addr"`
}

// Host is one entry of hosts.
type Host struct {
	Net  string // "unix" or "tcp", as net.Listen has them
	Addr string // a path, or address:port
}

// ParseHost reads an entry of hosts.
func ParseHost(s string) (Host, error) {
	scheme, addr, ok := strings.Cut(s, "://")
	if !ok {
		return Host{}, fmt.Errorf("%q is not like unix:///path or tcp://address:port", s)
	}
	switch scheme {
	case "unix":
		if !filepath.IsAbs(addr) || filepath.Clean(addr) != addr {
			return Host{}, fmt.Errorf("%q has no absolute path", s)
		}
	case "tcp":
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return Host{}, fmt.Errorf("%q has no port: docker's are 2375, and 2376 with TLS", s)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return Host{}, fmt.Errorf("%q has no port between 0 and 65535", s)
		}
		if host == "" {
			return Host{}, fmt.Errorf("%q has no address: name the one to listen at, 127.0.0.1 for this machine only", s)
		}
	case "fd":
		return Host{}, fmt.Errorf("%q: the sockets of systemd are listened at without being named", s)
	default:
		return Host{}, fmt.Errorf("%q is neither unix:// nor tcp://", s)
	}
	return Host{Net: scheme, Addr: addr}, nil
}

// loopback says whether only this machine reaches the address.
func (h Host) loopback() bool {
	host, _, err := net.SplitHostPort(h.Addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Encrypted says whether tcp hosts speak TLS.
func (l *Listen) Encrypted() bool { return l.TLS || l.TLSVerify }

// certificates fills in where certificates are unless set.
func (l *Listen) certificates(dir string) (ca, cert, key string) {
	or := func(path, name string) string {
		if path == "" {
			return filepath.Join(dir, name)
		}
		return path
	}
	return or(l.TLSCACert, "ca.pem"), or(l.TLSCert, "cert.pem"), or(l.TLSKey, "key.pem")
}

// Certificates are the files of TLS at tcp hosts: the authority of the clients'
// certificates, and the engine's own certificate and key.
func (c *Config) Certificates() (ca, cert, key string) { return c.certificates(c.Etc) }

func (l *Listen) validate() error {
	seen := map[Host]bool{}
	tcp := false
	for _, s := range l.Hosts {
		h, err := ParseHost(s)
		if err != nil {
			return &Error{Key: "hosts", Err: err}
		}
		if seen[h] {
			return &Error{Key: "hosts", Err: fmt.Errorf("%q is given twice", s)}
		}
		seen[h] = true
		tcp = tcp || h.Net == "tcp"
		if h.Net == "tcp" && !l.TLSVerify && !h.loopback() {
			return &Error{Key: "hosts", Err: fmt.Errorf("%q is open to other machines, and who reaches it can do all that you can: set tlsverify, or listen at 127.0.0.1", s)}
		}
	}
	if l.Encrypted() && !tcp {
		return &Error{Key: "tls", Err: errors.New("there is no tcp:// address in hosts that it could be for")}
	}
	for key, path := range map[string]string{"tlscacert": l.TLSCACert, "tlscert": l.TLSCert, "tlskey": l.TLSKey} {
		if path != "" && !filepath.IsAbs(path) {
			return &Error{Key: key, Err: fmt.Errorf("%q is not an absolute path", path)}
		}
	}
	if l.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(l.MetricsAddress); err != nil {
			return &Error{Key: "metrics-addr", Err: fmt.Errorf("%q is not like 127.0.0.1:9323", l.MetricsAddress)}
		}
	}
	return nil
}
