package plugins

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	// mimeType is that of the protocol's newest version.
	mimeType = "application/vnd.docker.plugins.v1.2+json"
	// maxAnswer bounds an answer, in bytes; maxWords what is shown of one that is an error.
	maxAnswer = 4 << 20
	maxWords  = 1 << 10
	// nobody is the host of requests over a unix socket.
	nobody = "plugin.moss.localhost"
)

// client speaks with one plugin, each time over a connection of its own: an idle
// one would outlive the plugin's restart.
type client struct {
	name string
	base string // scheme://host
	http *http.Client
}

func newClient(name string, at place) (*client, error) {
	u, err := url.Parse(at.address)
	if err != nil {
		return nil, moss.Wrap(err, "use the address of the plugin", name)
	}
	t := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}
	c := &client{name: name, base: "http://" + nobody}
	network, address := "unix", u.Path
	if u.Scheme != "unix" {
		network, address = "tcp", u.Host
		c.base = "http://" + u.Host
		if u.Scheme == "https" || at.tls {
			if t.TLSClientConfig, err = at.tlsConfig.load(u.Hostname()); err != nil {
				return nil, moss.Wrap(err, "set up TLS for the plugin", name)
			}
			c.base = "https://" + u.Host
		}
	}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, errNotSent{err}
		}
		return conn, nil
	}
	c.http = &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// load makes the configuration of a TLS client. Without an authority the plugin's
// certificate is not checked, as docker has it.
func (t tlsConfig) load(host string) (*tls.Config, error) {
	out := &tls.Config{ServerName: host, InsecureSkipVerify: t.InsecureSkipVerify || t.CAFile == "", MinVersion: tls.VersionTLS12} //nolint:gosec // the user's word
	if t.CAFile != "" {
		text, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("there is no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// send begins a call. The answer's status is 200.
func (c *client) send(ctx context.Context, method string, in any) (*http.Response, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, moss.Wrap(err, "encode the request "+method+" to the plugin", c.name)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/"+method, &body)
	if err != nil {
		return nil, moss.Wrap(err, "call the plugin", c.name)
	}
	r.Header.Set("Accept", mimeType)
	r.Header.Set("Content-Type", mimeType)
	res, err := c.http.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // its text is the address once more
		}
		return nil, unreachable(c.name, method, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }() // only read
	return nil, c.refusal(method, res)
}

// refusal is the error that a plugin answers with.
func (c *client) refusal(method string, res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(c.name, method, err)
	}
	var said struct{ Err string }
	words := strings.TrimSpace(string(text))
	if json.Unmarshal(text, &said) == nil && said.Err != "" {
		words = said.Err
	}
	class := moss.Internal
	if res.StatusCode == http.StatusNotFound {
		class = moss.NotImplemented // as far as HTTP goes: the protocol has no method of that name
	}
	return moss.Errorf(class, "%s: %s", method, shorten(words))
}

// shorten keeps an error readable, and the terminal that shows it as it is, whatever a plugin puts in it.
func shorten(s string) string {
	if len(s) > maxWords {
		s = s[:maxWords] + "…"
	}
	return moss.Shown(s)
}

// call sends in and decodes the answer into out.
func (c *client) call(ctx context.Context, method string, in, out any) error {
	res, err := c.send(ctx, method, in)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unreachable(c.name, method, err)
	case len(text) > maxAnswer:
		return moss.Errorf(moss.Unavailable, "plugin %q answers %s with more than %d bytes", c.name, method, maxAnswer)
	}
	if out == nil {
		return nil
	}
	// What follows the value is nobody's business, nor is the content type: servers
	// guess it, and many plugins leave that to them.
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(out); err != nil {
		return moss.Errorf(moss.Unavailable, "plugin %q answers %s with what is no such JSON (its content type is %q): %w", c.name, method, res.Header.Get("Content-Type"), err)
	}
	return nil
}

// Stream begins a call whose answer is read bit by bit, without a limit of time or
// size but ctx's. The reader must be closed.
func (r *Registry) Stream(ctx context.Context, c moss.PluginCall) (io.ReadCloser, error) {
	p, err := r.prepare(ctx, c.Plugin, c.Kind)
	if err != nil {
		return nil, err
	}
	res, err := p.client.send(ctx, c.Method, c.In)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (p *place) identify(info fs.FileInfo) {
	p.changed = info.ModTime().UnixNano()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		p.device, p.inode = st.Dev, st.Ino
	}
}
