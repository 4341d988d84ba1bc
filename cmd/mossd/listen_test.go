package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/config"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.sign(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, time.Hour)
	return a
}

// sign writes name.pem and name-key.pem.
func (a *authority) sign(name string, c *x509.Certificate, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(life)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(a.dir, path), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

func (a *authority) client(name string, life time.Duration) tls.Certificate {
	a.sign(name, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, life)
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// secured is an engine at a TCP port of 127.0.0.1 that serves "hello" to its clients.
type secured struct {
	*daemon
	t    *testing.T
	addr string
}

func newSecured(t *testing.T, dir string) *secured {
	in := func(name string) string { return filepath.Join(dir, name) }
	cfg := config.Config{Listen: config.Listen{TLSVerify: true, TLSCACert: in("ca.pem"), TLSCert: in("server.pem"), TLSKey: in("server-key.pem")}}
	s := &secured{t: t, daemon: &daemon{cfg: settings{Config: cfg}, log: slog.New(slog.DiscardHandler), host: new(machine)}}
	l, err := s.listen(t.Context(), config.Host{Net: "tcp", Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = hs.Serve(l) }()
	t.Cleanup(func() { _ = hs.Close() })
	return s
}

// get asks for the engine by a name, with a certificate or without one.
func (s *secured) get(name string, trusts *authority, cert *tls.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(trusts.cert)
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12, ClientSessionCache: sessions,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return new(tls.Certificate), nil
			}
			return cert, nil // also one that the server has said it will not take
		},
	}}}
	resp, err := c.Get("https://" + s.addr + "/")
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// sessions are kept by clients that would like to come back without a certificate.
var sessions = tls.NewLRUClientSessionCache(0)

func TestTLSVerify(t *testing.T) {
	dir := t.TempDir()
	ours := newAuthority(t, dir, "ca")
	stranger := newAuthority(t, t.TempDir(), "other")
	ours.sign("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, time.Hour)
	s := newSecured(t, dir)
	for name, tc := range map[string]struct {
		cert func() tls.Certificate
		host string
		ok   bool
	}{
		"no certificate": {nil, "127.0.0.1", false},
		"ours":           {func() tls.Certificate { return ours.client("client", time.Hour) }, "127.0.0.1", true},
		"expired":        {func() tls.Certificate { return ours.client("old", -time.Hour) }, "127.0.0.1", false},
		"a stranger's":   {func() tls.Certificate { return stranger.client("client", time.Hour) }, "127.0.0.1", false},
		"the wrong host": {func() tls.Certificate { return ours.client("client", time.Hour) }, "moss.example.com", false},
	} {
		var cert *tls.Certificate
		if tc.cert != nil {
			made := tc.cert()
			cert = &made
		}
		if err := s.get(tc.host, ours, cert); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(s.host.warnings) != 0 {
		t.Errorf("warned of what is safe: %v", s.host.warnings)
	}
}

// A reload takes the files' certificates over, so that an authority can be revoked.
func TestTLSRevoked(t *testing.T) {
	dir := t.TempDir()
	server := &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	old := newAuthority(t, dir, "ca")
	old.sign("server", server, time.Hour)
	s := newSecured(t, dir)
	before := old.client("before", time.Hour)
	if err := s.get("127.0.0.1", old, &before); err != nil {
		t.Fatal(err)
	}
	now := newAuthority(t, dir, "ca") // of the same name, with another key
	now.sign("server", &x509.Certificate{IPAddresses: server.IPAddresses}, time.Hour)
	after := now.client("after", time.Hour)
	if err := s.certs.read(s.cfg.Config); err != nil {
		t.Fatal(err)
	}
	if err := s.get("127.0.0.1", now, &after); err != nil {
		t.Errorf("who has a certificate of the new authority: %v", err)
	}
	if err := s.get("127.0.0.1", now, &before); err == nil {
		t.Error("who has a certificate of the revoked authority is served")
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := s.certs.read(s.cfg.Config); err == nil {
		t.Error("files that are not there were read")
	}
	if err := s.get("127.0.0.1", now, &after); err != nil {
		t.Errorf("after files that could not be read: %v", err)
	}
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	ours := newAuthority(t, dir, "ca")
	ours.sign("old", &x509.Certificate{}, -time.Hour)
	ours.sign("server", &x509.Certificate{}, time.Hour)
	in := func(name string) string { return filepath.Join(dir, name) }
	for want, l := range map[string]config.Listen{
		"cannot read the engine's certificate":                   {TLS: true, TLSCert: in("none.pem"), TLSKey: in("none-key.pem")},
		"private key does not match":                             {TLS: true, TLSCert: in("server.pem"), TLSKey: in("old-key.pem")},
		"expired on":                                             {TLS: true, TLSCert: in("old.pem"), TLSKey: in("old-key.pem")},
		"has no certificate":                                     {TLSVerify: true, TLSCert: in("server.pem"), TLSKey: in("server-key.pem"), TLSCACert: in("server-key.pem")},
		"cannot read the authority of the clients' certificates": {TLSVerify: true, TLSCert: in("server.pem"), TLSKey: in("server-key.pem"), TLSCACert: in("none.pem")},
	} {
		if _, err := tlsConfig(config.Config{Listen: l}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPlainTCPWarns(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), host: new(machine)}
	l, err := d.listen(t.Context(), config.Host{Net: "tcp", Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if len(d.host.warnings) != 1 || !strings.Contains(d.host.warnings[0], "without encryption") {
		t.Errorf("%v", d.host.warnings)
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), path); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a file was listened at: %v", err)
	}
	u, err := listenUnix(t.Context(), path+"2")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if st, err := os.Stat(path + "2"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if _, err := listenUnix(t.Context(), path+"2"); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("two daemons listen at one socket: %v", err)
	}
	if got := d.serving([]net.Listener{u, l}); got != "serving "+path+"2, tcp://"+l.Addr().String() {
		t.Error(got)
	}
}
