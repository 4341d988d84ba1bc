package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// The specification's defaults.
const (
	defaultEndpoint = "http://localhost:4318"
	defaultTimeout  = 10 * time.Second
	tracesPath      = "v1/traces"
)

// Config says where spans go, and how.
type Config struct {
	Endpoint  *url.URL
	Headers   http.Header
	Timeout   time.Duration // of a batch, with all that is tried again
	Gzip      bool
	JSON      bool        // in the place of protobuf
	TLS       *tls.Config // nil for the system's authorities
	UserAgent string
}

// Wanted says whether the variables ask for traces: one of them has to say so,
// for nobody who has no collector wants to hear of it. An exporter that there
// is not is an error.
func Wanted(getenv func(string) string) (bool, error) {
	// As the specification has it, what is not true is false.
	if strings.EqualFold(strings.TrimSpace(getenv("OTEL_SDK_DISABLED")), "true") {
		return false, nil
	}
	wanted := variables(getenv).first("ENDPOINT") != ""
	switch exporter := strings.TrimSpace(getenv("OTEL_TRACES_EXPORTER")); exporter {
	case "":
		return wanted, nil
	case "none":
		return false, nil
	case "otlp":
		return true, nil
	default:
		return false, fmt.Errorf("there is no exporter OTEL_TRACES_EXPORTER=%s: set otlp, which a collector translates into others, or none", exporter)
	}
}

// FromEnv reads the variables OTEL_EXPORTER_OTLP_*; those of traces alone,
// OTEL_EXPORTER_OTLP_TRACES_*, come first.
func FromEnv(getenv func(string) string) (c Config, err error) {
	v := variables(getenv)
	c = Config{Timeout: defaultTimeout}
	if c.Endpoint, err = v.endpoint(); err != nil {
		return c, err
	}
	switch name, protocol := v.find("PROTOCOL"); protocol {
	case "", "http/protobuf":
	case "http/json":
		c.JSON = true
	case "grpc":
		return c, fmt.Errorf("moss does not speak %s=grpc: set http/protobuf, and the collector's port for HTTP, 4318 as a rule, in the endpoint", name)
	default:
		return c, fmt.Errorf("%s=%s is none of http/protobuf, http/json", name, protocol)
	}
	switch name, way := v.find("COMPRESSION"); way {
	case "", "none":
	case "gzip":
		c.Gzip = true
	default:
		return c, fmt.Errorf("%s=%s is none of gzip, none", name, way)
	}
	if name, text := v.find("TIMEOUT"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil || ms == 0 {
			return c, fmt.Errorf("%s=%s is no number of milliseconds", name, text)
		}
		c.Timeout = time.Duration(ms) * time.Millisecond
	}
	name, text := v.find("HEADERS")
	if c.Headers, err = headers(text); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	c.TLS, err = v.tls()
	return c, err
}

// variables finds a variable's value: that for traces, else that for all signals.
type variables func(string) string

func (v variables) find(what string) (name, value string) {
	for _, name = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_" + what} {
		if value = strings.TrimSpace(v(name)); value != "" { // an empty one counts as unset
			break
		}
	}
	return name, value
}

func (v variables) first(what string) string {
	_, value := v.find(what)
	return value
}

// endpoint is taken as it is where it is that of traces; else the path of
// traces is below it.
func (v variables) endpoint() (*url.URL, error) {
	name, text := v.find("ENDPOINT")
	base := name == "OTEL_EXPORTER_OTLP_ENDPOINT"
	if text == "" {
		text = defaultEndpoint
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is no URL: %w", name, errors.Unwrap(err)) // without the text, which may have a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%s=%s is no URL like %s", name, u.Redacted(), defaultEndpoint)
	case base:
		return u.JoinPath(tracesPath), nil
	case u.Path == "":
		u.Path = "/"
	}
	return u, nil
}

// headers reads "name=value,name=value", the values with %XX. What is wrong is
// told without the values: they are credentials, as a rule.
func headers(text string) (http.Header, error) {
	h := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t:") {
			return nil, errors.New("not a list like name=value,name=value")
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil || strings.ContainsAny(value, "\r\n\x00") {
			return nil, fmt.Errorf("the value of %s cannot be sent in a header", name)
		}
		h.Add(name, value)
	}
	return h, nil
}

// tls is nil where no variable asks for anything.
func (v variables) tls() (*tls.Config, error) {
	caName, ca := v.find("CERTIFICATE")
	certName, cert := v.find("CLIENT_CERTIFICATE")
	keyName, key := v.find("CLIENT_KEY")
	if ca == "" && cert == "" && key == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caName, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in %s", caName, ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, fmt.Errorf("%s and %s are set together or not at all", certName, keyName)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", certName, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
