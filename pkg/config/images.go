package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Images is how images are kept and moved: docker's keys.
type Images struct {
	StorageOptions []string `json:"storage-opts"` // key=value; what they may be, pkg/storage knows

	RegistryMirrors    []string `json:"registry-mirrors"`    // of docker.io
	InsecureRegistries []string `json:"insecure-registries"` // host[:port] or CIDR

	MaxDownloads int `json:"max-concurrent-downloads"` // layers at a time
	MaxUploads   int `json:"max-concurrent-uploads"`   // layers at a time
	MaxAttempts  int `json:"max-download-attempts"`    // of each layer
}

func defaultImages() Images {
	return Images{MaxDownloads: 3, MaxUploads: 5, MaxAttempts: 5}
}

func (i *Images) validate() error {
	for _, o := range i.StorageOptions {
		if key, _, ok := strings.Cut(o, "="); !ok || key == "" {
			return &Error{Key: "storage-opts", Err: fmt.Errorf("%q is not like key=value", o)}
		}
	}
	for _, m := range i.RegistryMirrors {
		if err := mirror(m); err != nil {
			return &Error{Key: "registry-mirrors", Err: err}
		}
	}
	for _, r := range i.InsecureRegistries {
		if err := insecure(r); err != nil {
			return &Error{Key: "insecure-registries", Err: err}
		}
	}
	for key, n := range map[string]int{
		"max-concurrent-downloads": i.MaxDownloads, "max-concurrent-uploads": i.MaxUploads, "max-download-attempts": i.MaxAttempts,
	} {
		if n < 1 {
			return &Error{Key: key, Err: fmt.Errorf("%d is less than 1", n)}
		}
	}
	return nil
}

// mirror checks what docker does, and that there is no path: mirrors are asked
// for /v2/ at their root.
func mirror(m string) error {
	u, err := url.Parse(m)
	switch {
	case !strings.Contains(m, "://"):
		return fmt.Errorf("invalid mirror: no scheme specified for %q: must use either 'https://' or 'http://'", m)
	case err != nil:
		return fmt.Errorf("invalid mirror: %q is not a valid URI", m)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("invalid mirror: unsupported scheme %q in %q: must use either 'https://' or 'http://'", u.Scheme, m)
	case u.User != nil:
		return fmt.Errorf("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("invalid mirror: query or fragment at end of the URI %q", m)
	case u.Host == "":
		return fmt.Errorf("invalid mirror: no host in %q", m)
	case u.Path != "" && u.Path != "/":
		return fmt.Errorf("invalid mirror: path at end of the URI %q; a mirror below a path can be set in containers' registries.conf", m)
	}
	return nil
}

// Compiled when it is asked for, as runtimeName.
var hostPort = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9._]*[a-zA-Z0-9])?(:[0-9]+)?$`)
})

func insecure(r string) error {
	if strings.Contains(r, "://") {
		return fmt.Errorf("insecure registry %s should not contain '://'", r)
	}
	if _, err := netip.ParsePrefix(r); err == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(r)
	if err != nil {
		host, port = r, ""
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && !hostPort().MatchString(r) {
		return fmt.Errorf("insecure registry %s is not valid: invalid host %q", r, host)
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return errors.New("insecure registry " + r + " is not valid: invalid port " + strconv.Quote(port))
		}
	}
	return nil
}
