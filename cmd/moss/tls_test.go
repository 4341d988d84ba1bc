package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of this machine.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func (a authority) sign(t *testing.T, ip string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: until.Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.ParseIP(ip)}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// write puts what a client needs into a directory, under docker's names.
func (a authority) write(t *testing.T, client tls.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: a.cert.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: client.Certificate[0]}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tlsEngine answers who has a certificate of an authority, and tells its address.
func tlsEngine(t *testing.T, a authority, own tls.Certificate) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.50")
		_, _ = w.Write([]byte("[]")) // the client notices
	}))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of those who are not let in
	s.StartTLS()
	t.Cleanup(s.Close)
	return "tcp://" + s.Listener.Addr().String()
}

func TestTLS(t *testing.T) {
	later := time.Now().Add(time.Hour)
	a, b := newAuthority(t), newAuthority(t)
	mine := a.sign(t, "127.0.0.1", later)
	dir, none := a.write(t, mine), t.TempDir()
	other := b.write(t, b.sign(t, "127.0.0.1", later))
	good := tlsEngine(t, a, a.sign(t, "127.0.0.1", later))
	expired := tlsEngine(t, a, a.sign(t, "127.0.0.1", time.Now().Add(-time.Hour)))
	elsewhere := tlsEngine(t, a, a.sign(t, "192.0.2.1", later))
	named := "--tlscacert " + dir + "/ca.pem --tlscert " + dir + "/cert.pem --tlskey " + dir + "/key.pem "
	for _, test := range []struct {
		name, host, args string
		env              map[string]string
		says             string // "" for an answer
	}{
		{"flags", good, named + "--tlsverify ps", nil, ""},
		{"variables", good, "ps", map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": dir}, ""},
		{"the configuration's directory", good, "--tlsverify ps", map[string]string{"DOCKER_CONFIG": dir}, ""},
		{"whoever it is", elsewhere, "ps", map[string]string{"DOCKER_TLS": "1", "DOCKER_CERT_PATH": dir}, ""},
		{"whoever it is, by a flag", expired, "--tlsverify=false ps", map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": dir}, ""},
		{"an expired certificate", expired, named + "--tlsverify ps", nil, "cannot trust the engine: x509: certificate has expired or is not yet valid"},
		{"another host's", elsewhere, named + "--tlsverify ps", nil, "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		{"another authority's", good, "--tlsverify ps", map[string]string{"DOCKER_CERT_PATH": other}, "certificate signed by unknown authority"},
		{"no authority", good, "--tlsverify ps", map[string]string{"DOCKER_CERT_PATH": none}, "cannot read the authority's certificate (--tlscacert): open " + none},
		{"no certificate", good, "--tls ps", map[string]string{"DOCKER_CERT_PATH": none}, "certificate"},
		{"one that is named", good, "--tls --tlscert " + none + "/cert.pem ps", map[string]string{"DOCKER_CERT_PATH": dir}, "cannot read the client's certificate"},
		{"no TLS", good, "ps", nil, "an HTTP request to an HTTPS server"},
		{"at a socket", "unix:///nowhere.sock", "--tlsverify ps", nil, "TLS is spoken at tcp:// only"},
		{"for other engines", "unix:///nowhere.sock", "ps", map[string]string{"DOCKER_TLS_VERIFY": "1"}, "set it up with: moss setup"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{"MOSS_HOST": test.host, "HOME": none}
			maps.Copy(env, test.env)
			code, _, errs := run1(t, env, strings.Fields(test.args)...)
			if test.says == "" && code != 0 || test.says != "" && (code == 0 || !strings.Contains(errs, test.says)) {
				t.Errorf("moss %s: %d %s, want %q", test.args, code, errs, test.says)
			}
		})
	}
}
