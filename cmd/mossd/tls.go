package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/moss-containers/moss/pkg/config"
)

// certificates are what tcp hosts show and ask for. Who connects after a reload
// meets those that are in the files then: a certificate is renewed, and an
// authority revoked, without a restart.
type certificates struct{ now atomic.Pointer[tls.Config] }

// read takes the files over; after an error the ones before stay in force.
func (c *certificates) read(cfg config.Config) error {
	next, err := tlsConfig(cfg)
	if err == nil {
		c.now.Store(next)
	}
	return err
}

// config is for a listener.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load(), nil },
	}
}

// tlsConfig reads the certificates. HTTP/2 is left out: attached streams take
// the connection over, which it has not.
func tlsConfig(cfg config.Config) (*tls.Config, error) {
	ca, cert, key := cfg.Certificates()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the engine's certificate %s with its key %s: %w", cert, key, err)
	}
	now := time.Now()
	if leaf := pair.Leaf; leaf != nil && now.After(leaf.NotAfter) {
		return nil, fmt.Errorf("cannot use the engine's certificate %s: it expired on %s", cert, leaf.NotAfter.Format(time.DateOnly))
	}
	out := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		SessionTicketsDisabled: true, // nobody comes in by what was valid once
	}
	if !cfg.TLSVerify {
		return out, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority of the clients' certificates: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot read the authority of the clients' certificates: %s has no certificate", ca)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}
