package logs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

var syslogFacilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

var syslogDriver = driver{
	options: slices.Concat(attrOptionNames, modeOptionNames, cacheOptionNames, []string{
		"syslog-address", "syslog-facility", "syslog-format",
		"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
	}),
	check:  func(o map[string]string) error { _, err := parseSyslog(o); return err },
	asked:  wantSyslogSocket,
	dial:   dialSyslog,
	remote: true,
}

// syslogServer says where and how lines go to a syslog.
type syslogServer struct {
	address  address // the zero one is the machine's own
	facility int
	format   string
	secure   bool
}

func parseSyslog(o map[string]string) (s syslogServer, err error) {
	s.facility = 3
	if f := o["syslog-facility"]; f != "" {
		n, err := strconv.Atoi(f)
		if err != nil {
			n = slices.Index(syslogFacilities, f)
		}
		if n < 0 || n > 23 {
			return s, moss.Errorf(moss.Invalid, "log opt 'syslog-facility' must be a facility like local0 or its number, not '%s'", f)
		}
		s.facility = n
	}
	s.format = o["syslog-format"]
	if !slices.Contains([]string{"", "rfc3164", "rfc5424", "rfc5424micro"}, s.format) {
		return s, moss.Errorf(moss.Invalid, "log opt 'syslog-format' must be rfc3164, rfc5424 or rfc5424micro, not '%s'", s.format)
	}
	a := o["syslog-address"]
	if a != "" {
		s.address, err = parseAddress("syslog-address", a, "514", "udp", "tcp", "tcp+tls", "unix", "unixgram")
		if err != nil {
			return s, err
		}
	}
	s.secure = strings.HasPrefix(a, "tcp+tls:")
	if s.secure {
		s.address.tls, err = syslogTLS(o)
		return s, err
	}
	for _, k := range []string{"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"} {
		if _, ok := o[k]; ok {
			return s, moss.Errorf(moss.Invalid, "log opt '%s' needs a syslog-address that begins with tcp+tls://", k)
		}
	}
	return s, nil
}

// wantSyslogSocket refuses a Unix socket that is not there, as docker does.
func wantSyslogSocket(o map[string]string) error {
	s, err := parseSyslog(o)
	if err != nil || !strings.HasPrefix(s.address.network, "unix") {
		return err
	}
	if _, err := os.Stat(s.address.at); err != nil {
		return moss.Errorf(moss.Invalid, "log opt 'syslog-address': %w; start the log server first", err)
	}
	return nil
}

func syslogTLS(o map[string]string) (*tls.Config, error) {
	skip, err := parseBool(o, "syslog-tls-skip-verify", false)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip} //nolint:gosec // the user asks for it
	if path := o["syslog-tls-ca-cert"]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "log opt 'syslog-tls-ca-cert': %v", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, moss.Errorf(moss.Invalid, "log opt 'syslog-tls-ca-cert': %s holds no certificate", path)
		}
	}
	if cert, key := o["syslog-tls-cert"], o["syslog-tls-key"]; cert != "" || key != "" {
		if cert == "" || key == "" {
			return nil, moss.Errorf(moss.Invalid, "log opts 'syslog-tls-cert' and 'syslog-tls-key' go together: one is not given")
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "log opts 'syslog-tls-cert' and 'syslog-tls-key': %v", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// syslogSender sends lines to a syslog.
type syslogSender struct {
	server    syslogServer
	tag, host string
	wire      wire
	datagram  bool
	buf       []byte
}

func dialSyslog(c *moss.Container) (sender, error) {
	server, err := parseSyslog(c.Host.LogConfig.Options)
	if err != nil {
		return nil, err
	}
	s := &syslogSender{server: server}
	if s.tag, err = tagOf(c, "{{.ID}}"); err != nil {
		return nil, err
	}
	if s.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	s.wire.dial, s.wire.mute = s.dial, true
	if err := s.wire.connect(); err != nil && mustReach(c) {
		return nil, err
	}
	return s, nil
}

func (s *syslogSender) dial(ctx context.Context) (conn net.Conn, err error) {
	if s.server.address.network != "" {
		s.datagram = s.server.address.datagram()
		return s.server.address.dial(ctx)
	}
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			if conn, err = (address{network: network, at: path}).dial(ctx); err == nil {
				s.datagram = network == "unixgram"
				return conn, nil
			}
		}
	}
	return nil, fmt.Errorf("this machine has no syslog: %w", err)
}

func (s *syslogSender) send(ms []message) error {
	if err := s.wire.connect(); err != nil { // which tells what kind it is
		return err
	}
	b := s.buf[:0]
	for i := range ms {
		if len(ms[i].text) == 0 {
			continue // docker's driver sends no empty ones either
		}
		b = s.appendLine(b, &ms[i])
		if s.datagram {
			if err := s.wire.write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if s.buf = b[:0]; cap(b) > maxKept {
		s.buf = nil
	}
	if len(b) == 0 {
		return nil
	}
	return s.wire.write(b)
}

// appendLine appends a message in the server's format. Its last byte is a
// newline, by which servers tell messages apart in a stream.
func (s *syslogSender) appendLine(b []byte, m *message) []byte {
	priority := s.server.facility<<3 | 6
	if m.kind == moss.Stderr {
		priority = s.server.facility<<3 | 3
	}
	start, pid, at := len(b), os.Getpid(), m.at.Local()
	switch s.server.format {
	case "":
		b = fmt.Appendf(b, "<%d>%s %s[%d]: ", priority, at.Format(time.Stamp), s.tag, pid)
	case "rfc3164":
		b = fmt.Appendf(b, "<%d>%s %s %s[%d]: ", priority, at.Format(time.Stamp), s.host, s.tag, pid)
	default:
		layout := time.RFC3339
		if s.server.format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = fmt.Appendf(b, "<%d>1 %s %s %s %d %s - ", priority, at.Format(layout), s.host, s.tag, pid, s.tag)
	}
	b = append(append(b, m.text...), '\n')
	if s.server.secure && strings.HasPrefix(s.server.format, "rfc5424") { // RFC 5425 counts
		b = slices.Insert(b, start, []byte(strconv.Itoa(len(b)-start)+" ")...)
	}
	return b
}

func (s *syslogSender) Close() error { return s.wire.Close() }
