package registry

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/containers/image/v5/pkg/tlsclientconfig"
	"github.com/docker/distribution/registry/client/transport"

	"github.com/moss-containers/moss/pkg/moss"
)

// endpoint is one way to a registry, for what the library of images has no
// call for.
type endpoint struct {
	url *url.URL // scheme and host
	tr  http.RoundTripper
}

// patience is how long a registry may take to answer a question, as with docker.
const patience = 15 * time.Second

// endpoints returns the ways to a registry in the order to be tried: HTTPS,
// and HTTP for one that may be insecure.
func (c *Client) endpoints(ctx context.Context, host string) ([]endpoint, error) {
	insecure := c.isInsecure(ctx, host)
	dirs, err := c.certsFor([]string{host})
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // the user named it so
	if err := tlsclientconfig.SetupCertificates(filepath.Join(dirs, host), conf); err != nil {
		return nil, moss.Errorf(moss.Invalid, "cannot use the certificates for %s: %w", host, err)
	}
	base := tlsclientconfig.NewTransport()
	base.TLSClientConfig = conf
	base.DisableKeepAlives = true // it is for one question
	at := host
	if host == dockerHub {
		at = "registry-1.docker.io"
	}
	schemes := []string{"https"}
	if insecure {
		schemes = append(schemes, "http")
	}
	agent := transport.NewTransport(base, transport.NewHeaderRequestModifier(http.Header{"User-Agent": {c.o.UserAgent}}))
	var ways []endpoint
	for _, s := range schemes {
		ways = append(ways, endpoint{url: &url.URL{Scheme: s, Host: at}, tr: agent})
	}
	return ways, nil
}

// isInsecure looks at registries.conf as well.
func (c *Client) isInsecure(ctx context.Context, host string) bool {
	for _, r := range c.now.Load().base.Registries {
		if at, _, _ := strings.Cut(r.Location, "/"); at == host && r.Insecure {
			return true
		}
	}
	return c.now.Load().insecure.is(ctx, host)
}

// ask sends one question, with the authorization header unless it is "".
func (e endpoint) ask(ctx context.Context, method, at, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return (&http.Client{Transport: e.tr, Timeout: patience}).Do(req)
}
