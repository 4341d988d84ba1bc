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

func TestTLSVerify(t *testing.T) {
	dir := t.TempDir()
	ours := newAuthority(t, dir, "ca")
	stranger := newAuthority(t, t.TempDir(), "other")
	ours.sign("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, time.Hour)
	in := func(name string) string { return filepath.Join(dir, name) }
	cfg := config.Config{Listen: config.Listen{TLSVerify: true, TLSCACert: in("ca.pem"), TLSCert: in("server.pem"), TLSKey: in("server-key.pem")}}
	d := &daemon{cfg: settings{Config: cfg}, log: slog.New(slog.DiscardHandler), host: new(machine)}
	l, err := d.listen(t.Context(), config.Host{Net: "tcp", Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = hs.Serve(l) }()
	defer hs.Close()
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	for name, tc := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{
		"no certificate": {nil, false},
		"ours":           {[]tls.Certificate{ours.client("client", time.Hour)}, true},
		"expired":        {[]tls.Certificate{ours.client("old", -time.Hour)}, false},
		"a stranger's":   {[]tls.Certificate{stranger.client("client", time.Hour)}, false},
	} {
		certs := tc.certs
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return new(tls.Certificate), nil
			}
			return &certs[0], nil // also one that the server has said it will not take
		}}}}
		resp, err := c.Get("https://" + l.Addr().String() + "/")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.host.warnings) != 0 {
		t.Errorf("warned of what is safe: %v", d.host.warnings)
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
