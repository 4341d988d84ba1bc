package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
)

// tlsFlags are docker's global flags for an engine at tcp://; nil is one that was not given.
type tlsFlags struct {
	on, verify    *bool
	ca, cert, key *string
}

func tlsOptions() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "tls", Usage: "speak TLS at tcp://, whoever answers (default: $DOCKER_TLS)"},
		&cli.BoolFlag{Name: "tlsverify", Usage: "speak TLS at tcp://, with an engine that the authority has signed (default: $DOCKER_TLS_VERIFY)"},
		&cli.StringFlag{Name: "tlscacert", Usage: "`FILE` of the authority (default: ca.pem in $DOCKER_CERT_PATH, $DOCKER_CONFIG or ~/.docker)"},
		&cli.StringFlag{Name: "tlscert", Usage: "`FILE` of the client's certificate (default: cert.pem there)"},
		&cli.StringFlag{Name: "tlskey", Usage: "`FILE` of its key (default: key.pem there)"},
	}
}

func readTLS(c *cli.Context) (f tlsFlags) {
	for name, to := range map[string]**bool{"tls": &f.on, "tlsverify": &f.verify} {
		if c.IsSet(name) {
			v := c.Bool(name)
			*to = &v
		}
	}
	for name, to := range map[string]**string{"tlscacert": &f.ca, "tlscert": &f.cert, "tlskey": &f.key} {
		if c.IsSet(name) {
			v := c.String(name)
			*to = &v
		}
	}
	return f
}

// given says whether TLS was asked for by a flag.
func (f tlsFlags) given() bool { return f.on != nil && *f.on || f.verify != nil && *f.verify }

// secure are the client's options where the engine is to be spoken to with TLS. As with docker's
// client, --tlsverify asks for it by being there, also as --tlsverify=false.
func (a *app) secure() ([]client.Opt, error) {
	verify := a.getenv("DOCKER_TLS_VERIFY") != ""
	on := verify || a.getenv("DOCKER_TLS") != ""
	if a.tls.on != nil {
		on = *a.tls.on || verify
	}
	if a.tls.verify != nil {
		on, verify = true, *a.tls.verify
	}
	if !strings.HasPrefix(a.hostURL(), "tcp://") { // a socket's file is protection enough; the variables are for other engines
		if a.tls.given() {
			return nil, errors.New("TLS is spoken at tcp:// only: leave out --tls and --tlsverify")
		}
		return nil, nil
	}
	if !on {
		return nil, nil
	}
	cfg, err := a.tlsConfig(verify)
	if err != nil {
		return nil, err
	}
	return []client.Opt{client.WithHTTPClient(&http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, CheckRedirect: client.CheckRedirect})}, nil
}

// tlsConfig reads the files: the authority's, where the engine is looked at, and the client's own,
// which need not be there unless they are named.
func (a *app) tlsConfig(verify bool) (*tls.Config, error) {
	dir := a.getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = a.dockerDir()
	}
	file := func(given *string, name string) string {
		if given != nil {
			return *given
		}
		return filepath.Join(dir, name)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify} //nolint:gosec // --tls without --tlsverify says so
	if verify {
		path := file(a.tls.ca, "ca.pem")
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read the authority's certificate (--tlscacert): %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("cannot read the authority's certificate (--tlscacert): %s has none", path)
		}
	}
	pair, err := tls.LoadX509KeyPair(file(a.tls.cert, "cert.pem"), file(a.tls.key, "key.pem"))
	switch {
	case err == nil:
		cfg.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, fs.ErrNotExist) || a.tls.cert != nil || a.tls.key != nil:
		return nil, fmt.Errorf("cannot read the client's certificate (--tlscert, --tlskey): %w", err)
	}
	return cfg, nil
}
