package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func remoteContainer(t testing.TB, driver string, opts map[string]string) *moss.Container {
	t.Helper()
	c := withDriver(t, driver, opts)
	c.Name, c.ImageRef, c.Image = "web", "busybox:latest", "sha256:0123456789abcdef"
	c.Config.Env = []string{"COLOUR=red", "_SIZE=big", "id=7", "source=spring", "partial_id=mine"}
	return c
}

// accepted returns what a server of streams is sent until its client is gone.
func accepted(t testing.TB, ln net.Listener) <-chan []byte {
	t.Helper()
	t.Cleanup(func() { _ = ln.Close() })
	got := make(chan []byte, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(conn)
		got <- b
	}()
	return got
}

func listen(t testing.TB, network, at string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestSyslogFormats(t *testing.T) {
	host, _ := os.Hostname()
	host = regexp.QuoteMeta(host)
	tag := "web/red"
	pid := os.Getpid()
	for format, want := range map[string]string{
		"":             fmt.Sprintf(`^<%%d>\w{3} [ \d]\d \d\d:\d\d:\d\d %s\[%d\]: %%s$`, tag, pid),
		"rfc3164":      fmt.Sprintf(`^<%%d>\w{3} [ \d]\d \d\d:\d\d:\d\d %s %s\[%d\]: %%s$`, host, tag, pid),
		"rfc5424":      fmt.Sprintf(`^<%%d>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) %s %s %d %s - %%s$`, host, tag, pid, tag),
		"rfc5424micro": fmt.Sprintf(`^<%%d>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) %s %s %d %s - %%s$`, host, tag, pid, tag),
	} {
		ln := listen(t, "tcp", "127.0.0.1:0")
		got := accepted(t, ln)
		c := remoteContainer(t, "syslog", map[string]string{
			"syslog-address": "tcp://" + ln.Addr().String(), "syslog-facility": "local3", "syslog-format": format, "tag": "{{.Name}}/red",
		})
		s := openAny(t, New(), c)
		write(t, s, moss.Stdout, "\non")
		write(t, s, moss.Stdout, "e\n\n")
		write(t, s, moss.Stderr, "two\n")
		closeSink(t, s)
		lines := strings.Split(strings.TrimSuffix(string(<-got), "\n"), "\n")
		if len(lines) != 2 {
			t.Fatalf("%q: got %q", format, lines)
		}
		for i, text := range []string{"one", "two"} {
			if re := fmt.Sprintf(want, []int{19<<3 | 6, 19<<3 | 3}[i], text); !regexp.MustCompile(re).MatchString(lines[i]) {
				t.Errorf("%q: %q is not %s", format, lines[i], re)
			}
		}
	}
}

func TestSyslogTransports(t *testing.T) {
	dir := t.TempDir()
	cert, ca := certificate(t, dir)
	for scheme, ln := range map[string]net.Listener{
		"tcp+tls": tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{cert}}), //nolint:gosec // a test's
		"unix":    listen(t, "unix", filepath.Join(dir, "stream")),
	} {
		got := accepted(t, ln)
		o := map[string]string{"syslog-address": scheme + "://" + ln.Addr().String(), "syslog-format": "rfc5424"}
		want := regexp.MustCompile(`^<30>1 .* - hello\n$`)
		if scheme == "tcp+tls" {
			o["syslog-tls-ca-cert"] = ca
			want = regexp.MustCompile(`^\d+ <30>1 .* - hello\n$`)
		}
		s := openAny(t, New(), remoteContainer(t, "syslog", o))
		write(t, s, moss.Stdout, "hello\n")
		closeSink(t, s)
		if b := <-got; !want.Match(b) {
			t.Errorf("%s: %q", scheme, b)
		}
	}
	for scheme, at := range map[string]string{"udp": "127.0.0.1:0", "unixgram": filepath.Join(dir, "datagrams")} {
		pc, err := net.ListenPacket(scheme, at)
		if err != nil {
			t.Fatal(err)
		}
		s := openAny(t, New(), remoteContainer(t, "syslog", map[string]string{"syslog-address": scheme + "://" + pc.LocalAddr().String()}))
		write(t, s, moss.Stdout, "one\ntwo\n")
		for _, text := range []string{"one", "two"} {
			b := make([]byte, 9000)
			n, _, err := pc.ReadFrom(b)
			if err != nil || !strings.HasSuffix(string(b[:n]), ": "+text+"\n") {
				t.Errorf("%s: %q, %v", scheme, b[:n], err)
			}
		}
		closeSink(t, s)
		_ = pc.Close()
	}
}

// With TLS 1.3 a server refuses a client after the client's handshake: what it
// never read must not count as sent.
func TestSyslogRefusedCertificate(t *testing.T) {
	cert, ca := certificate(t, t.TempDir())
	ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{ //nolint:gosec // a test's
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
	})
	got := accepted(t, ln)
	s := openAny(t, New(), remoteContainer(t, "syslog", map[string]string{
		"syslog-address": "tcp+tls://" + ln.Addr().String(), "syslog-tls-ca-cert": ca,
	}))
	if b := <-got; len(b) > 0 {
		t.Errorf("the server read %q", b)
	}
	w := &s.(*tee).to.(*locked).sink.(*lineSink).to.(*syslogSender).wire
	w.refusal <- <-w.refusal // the alert has come
	for range 2 {
		if err := s.Write(moss.Stdout, time.Now(), []byte("two\n")); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("got %v", err)
		}
	}
	_ = s.Close()
}

func certificate(t *testing.T, dir string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// A server that goes away loses lines, but holds nobody up, and gets the later ones.
func TestSyslogComesBack(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	got := accepted(t, ln)
	l, c := New(), remoteContainer(t, "syslog", map[string]string{"syslog-address": "tcp://" + ln.Addr().String()})
	s := openAny(t, l, c)
	write(t, s, moss.Stdout, "one\n")
	_ = ln.Close()
	sender := s.(*tee).to.(*locked).sink.(*lineSink).to.(*syslogSender)
	_ = sender.wire.conn.(*net.TCPConn).CloseWrite()
	<-got
	start := time.Now()
	failed := 0
	for i := range 1000 {
		if s.Write(moss.Stdout, time.Now(), fmt.Appendf(nil, "lost %d\n", i)) != nil {
			failed++
		}
	}
	if failed == 0 || time.Since(start) > time.Minute {
		t.Errorf("%d of 1000 writes failed in %v", failed, time.Since(start))
	}
	back := listen(t, "tcp", ln.Addr().String())
	again := accepted(t, back)
	sender.wire.next = time.Time{}
	write(t, s, moss.Stdout, "back\n")
	closeSink(t, s)
	if b := <-again; !strings.HasSuffix(string(b), ": back\n") {
		t.Errorf("got %q", b)
	}
	if n := strings.Count(all(t, l, c, query()), "\n"); n != 1002 {
		t.Errorf("the cache has %d lines", n)
	}
}

func TestMustReachToStart(t *testing.T) {
	for driver, o := range map[string]map[string]string{
		"syslog": {"syslog-address": "tcp://127.0.0.1:1"}, "gelf": {"gelf-address": "tcp://127.0.0.1:1"}, "fluentd": {"fluentd-address": "127.0.0.1:1"},
	} {
		c := remoteContainer(t, driver, o)
		if s, err := New().Open(c); err == nil {
			_ = s.Close()
			t.Errorf("%s: a container starts without its log", driver)
		}
		c.State = moss.StateRunning // and its daemon has come back
		s, err := New().Open(c)
		if err != nil {
			t.Errorf("%s: %v", driver, err)
			continue
		}
		_ = s.Close()
	}
}

func TestGelfDatagrams(t *testing.T) {
	long := make([]byte, 12_000)
	_, _ = rand.Read(long)
	longText := fmt.Sprintf("%x", long)[:maxText]
	for _, kind := range []string{"gzip", "zlib", "none"} {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := openAny(t, New(), remoteContainer(t, "gelf", map[string]string{
			"gelf-address": "udp://" + pc.LocalAddr().String(), "gelf-compression-type": kind, "env": "COLOUR,_SIZE,id",
		}))
		write(t, s, moss.Stderr, "hi\n\n")
		write(t, s, moss.Stdout, longText+"\n")
		for i, text := range []string{"hi", longText} {
			var m map[string]any
			if err := json.Unmarshal(receiveGelf(t, pc, kind), &m); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"version": "1.1", "short_message": text, "level": []float64{3, 6}[i], "_container_name": "web", "_COLOUR": "red",
				"_image_name": "busybox:latest", "_SIZE": "big", "_id": "7",
			}
			for k, v := range want {
				if m[k] != v {
					t.Errorf("%s: %s is %.40v, want %.40v", kind, k, m[k], v)
				}
			}
			if at, ok := m["timestamp"].(float64); !ok || time.Since(time.UnixMilli(int64(at*1000))) > time.Minute {
				t.Errorf("timestamp %v", m["timestamp"])
			}
		}
		closeSink(t, s)
		_ = pc.Close()
	}
}

// receiveGelf puts a message together and unpacks it.
func receiveGelf(t *testing.T, pc net.PacketConn, kind string) []byte {
	t.Helper()
	parts := map[byte][]byte{}
	for {
		b := make([]byte, 65536)
		n, _, err := pc.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		b = b[:n]
		if n < 2 || b[0] != 0x1e || b[1] != 0x0f {
			return inflate(t, kind, b)
		}
		if n > gelfChunk {
			t.Errorf("a datagram of %d bytes", n)
		}
		parts[b[10]] = b[12:]
		if len(parts) == int(b[11]) {
			var whole []byte
			for i := range b[11] {
				whole = append(whole, parts[i]...)
			}
			return inflate(t, kind, whole)
		}
	}
}

func inflate(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch kind {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zlib":
		r, err = zlib.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGelfStream(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	got := accepted(t, ln)
	s := openAny(t, New(), remoteContainer(t, "gelf", map[string]string{"gelf-address": "tcp://" + ln.Addr().String()}))
	write(t, s, moss.Stdout, "a\nb\n")
	closeSink(t, s)
	texts := []string{}
	for part := range bytes.SplitSeq(bytes.TrimSuffix(<-got, []byte{0}), []byte{0}) {
		var m map[string]any
		if err := json.Unmarshal(part, &m); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, m["short_message"].(string))
	}
	if strings.Join(texts, "") != "ab" {
		t.Errorf("got %v", texts)
	}
}

// unpack reads a MessagePack value of the kinds that the protocol has.
func unpackValue(t *testing.T, r *bufio.Reader) any {
	t.Helper()
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	mapOf := func(n int) any {
		m := map[string]any{}
		for range n {
			k := unpackValue(t, r).(string)
			if _, twice := m[k]; twice {
				t.Errorf("%s is there twice", k)
			}
			m[k] = unpackValue(t, r)
		}
		return m
	}
	c := bytesOf(1)[0]
	switch {
	case c == 0xc0:
		return nil
	case c&0xe0 == 0xa0:
		return string(bytesOf(int(c & 0x1f)))
	case c == 0xd9:
		return string(bytesOf(int(bytesOf(1)[0])))
	case c == 0xda:
		return string(bytesOf(int(binary.BigEndian.Uint16(bytesOf(2)))))
	case c == 0xdb:
		return string(bytesOf(int(binary.BigEndian.Uint32(bytesOf(4)))))
	case c&0xf0 == 0x90:
		var list []any
		for range c & 0xf {
			list = append(list, unpackValue(t, r))
		}
		return list
	case c&0xf0 == 0x80:
		return mapOf(int(c & 0xf))
	case c == 0xde:
		return mapOf(int(binary.BigEndian.Uint16(bytesOf(2))))
	case c == 0xcf:
		return time.Unix(int64(binary.BigEndian.Uint64(bytesOf(8))), 0)
	case c == 0xd7:
		b := bytesOf(9)
		return time.Unix(int64(binary.BigEndian.Uint32(b[1:])), int64(binary.BigEndian.Uint32(b[5:])))
	}
	t.Fatalf("type %#x", c)
	return nil
}

func TestFluentd(t *testing.T) {
	for _, o := range []map[string]string{
		{"env": "COLOUR"}, {"fluentd-async": "true", "fluentd-sub-second-precision": "true"}, {"fluentd-request-ack": "true"},
	} {
		ln := listen(t, "tcp", "127.0.0.1:0")
		t.Cleanup(func() { _ = ln.Close() })
		o["fluentd-address"] = ln.Addr().String()
		o["tag"] = "app.{{.Name}}"
		got := make(chan []any, 10)
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				if _, err := r.Peek(1); err != nil {
					close(got)
					return
				}
				m := unpackValue(t, r).([]any)
				if opt, ok := m[3].(map[string]any); ok {
					_, _ = conn.Write(packString([]byte("\x81\xa3ack"), opt["chunk"].(string)))
				}
				got <- m
			}
		}()
		c := remoteContainer(t, "fluentd", o)
		s := openAny(t, New(), c)
		at := time.Now()
		_ = s.Write(moss.Stdout, at, []byte(strings.Repeat("y", maxText+1)+"\n"))
		_ = s.Write(moss.Stderr, at, []byte("last\n"))
		closeSink(t, s)
		var all [][]any
		for m := range got {
			all = append(all, m)
		}
		if len(all) != 3 {
			t.Fatalf("%v: %d messages", o, len(all))
		}
		for i, want := range []map[string]any{
			{"source": "stdout", "partial_message": "true", "partial_ordinal": "1", "partial_last": "false"},
			{"source": "stdout", "log": "y", "partial_ordinal": "2", "partial_message": "true", "partial_last": "true"},
			{"source": "stderr", "log": "last", "container_id": string(c.ID), "container_name": "/web"},
		} {
			if o["env"] != "" {
				want["COLOUR"] = "red"
			}
			rec := all[i][2].(map[string]any)
			for k, v := range want {
				if rec[k] != v {
					t.Errorf("%v: message %d: %s is %.40v, want %v", o, i, k, rec[k], v)
				}
			}
			if all[i][0] != "app.web" {
				t.Errorf("tag %v", all[i][0])
			}
			exact := o["fluentd-sub-second-precision"] != ""
			if sent := all[i][1].(time.Time); exact && !sent.Equal(at) || sent.Unix() != at.Unix() {
				t.Errorf("time %v, want %v", sent, at)
			}
		}
	}
}

func TestCacheCanBeHadOrNot(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	o := map[string]string{"syslog-address": "udp://" + pc.LocalAddr().String(), "cache-disabled": "true"}
	l, c := New(), remoteContainer(t, "syslog", o)
	s := openAny(t, l, c)
	write(t, s, moss.Stdout, "x\n")
	err = l.Read(t.Context(), c, query(), func(moss.LogLine) error { return nil })
	if moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("without a cache: %v", err)
	}
	o = map[string]string{"syslog-address": o["syslog-address"], "cache-max-size": "10k", "cache-max-file": "2"}
	c = remoteContainer(t, "syslog", o)
	s = openAny(t, l, c)
	for range 3000 {
		write(t, s, moss.Stdout, "twenty bytes of text\n")
	}
	if n := len(all(t, l, c, query())); n < 5000 || n > 20_000 {
		t.Errorf("the cache has %d bytes", n)
	}
}

func TestRemoteOptions(t *testing.T) {
	for _, k := range []struct {
		driver, want string
		o            map[string]string
	}{
		{"syslog", "its scheme is none of", map[string]string{"syslog-address": "http://x"}},
		{"syslog", "no path", map[string]string{"syslog-address": "unix://"}},
		{"syslog", "syslog-facility", map[string]string{"syslog-facility": "kitchen"}},
		{"syslog", "syslog-format", map[string]string{"syslog-format": "rfc1"}},
		{"syslog", "begins with tcp+tls", map[string]string{"syslog-address": "tcp://x", "syslog-tls-skip-verify": "true"}},
		{"syslog", "go together", map[string]string{"syslog-address": "tcp+tls://x", "syslog-tls-cert": "/nowhere"}},
		{"syslog", "syslog-tls-ca-cert", map[string]string{"syslog-address": "tcp+tls://x", "syslog-tls-ca-cert": "/nowhere"}},
		{"syslog", "unknown log opt 'max-size' for syslog log driver", map[string]string{"max-size": "1m"}},
		{"syslog", "/nowhere/log: no such file", map[string]string{"syslog-address": "unix:///nowhere/log"}},
		{"syslog", "/nowhere/log: no such file", map[string]string{"syslog-address": "unixgram:///nowhere/log"}},
		{"gelf", "required", nil},
		{"gelf", "must be like udp://host:port, not 'udp://host'", map[string]string{"gelf-address": "udp://host"}},
		{"gelf", "must be like tcp://host:port, not 'tcp://host:'", map[string]string{"gelf-address": "tcp://host:"}},
		{"gelf", "begins with udp", map[string]string{"gelf-address": "tcp://x", "gelf-compression-type": "gzip"}},
		{"gelf", "begins with tcp", map[string]string{"gelf-address": "udp://x", "gelf-tcp-max-reconnect": "1"}},
		{"gelf", "from -1 to 9", map[string]string{"gelf-address": "udp://x", "gelf-compression-level": "10"}},
		{"fluentd", "size like 8m", map[string]string{"fluentd-buffer-limit": "much"}},
		{"fluentd", "time like 500ms", map[string]string{"fluentd-retry-wait": "soon"}},
		{"fluentd", "from 100ms to 10s", map[string]string{"fluentd-async-reconnect-interval": "20s"}},
		{"fluentd", "time like 500ms", map[string]string{"fluentd-read-timeout": "-1s"}},
		{"fluentd", "true or false", map[string]string{"fluentd-async": "perhaps"}},
		{"journald", "unknown log opt 'max-size' for journald log driver", map[string]string{"max-size": "1m"}},
		{"journald", "cannot be filled in", map[string]string{"tag": "{{.Nothing}}"}},
	} {
		err := New().Check(moss.LogConfig{Driver: k.driver, Options: k.o})
		if err == nil || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%s %v: %v, want %q", k.driver, k.o, err, k.want)
		}
	}
}

// What is asked of a new container's log is not asked again of one that there is:
// its log can be read, and the daemon starts, while the server is away.
func TestOlderOptionsStay(t *testing.T) {
	for _, k := range []moss.LogConfig{
		{Driver: "syslog", Options: map[string]string{"syslog-address": "unix:///nowhere/log"}},
		{Driver: "gelf", Options: map[string]string{"gelf-address": "udp://host"}},
	} {
		c := remoteContainer(t, k.Driver, k.Options)
		if Path(c) == "" {
			t.Errorf("%v: the cache is not to be found", k)
		}
		if err := New().CheckOptions(k); err != nil {
			t.Error(err)
		}
		if err := New().Check(k); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%v: %v", k, err)
		}
	}
	ln := listen(t, "unix", filepath.Join(t.TempDir(), "log"))
	defer ln.Close()
	for _, k := range []moss.LogConfig{
		{Driver: "syslog", Options: map[string]string{"syslog-address": "unix://" + ln.Addr().String()}},
		{Driver: "syslog", Options: map[string]string{"syslog-address": "udp://host"}}, // its port has a default, with docker too
		{Driver: "gelf", Options: map[string]string{"gelf-address": "udp://[::1]:12201"}},
	} {
		if err := New().Check(k); err != nil {
			t.Error(err)
		}
	}
}

func FuzzAck(f *testing.F) {
	f.Add([]byte("\x81\xa3ack\xa3abc"))
	f.Add([]byte("\x81\xa3ack\xd9\x03abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		chunk, done, err := unpackAck(b)
		if err == nil && done && !bytes.Contains(b, []byte(chunk)) || err != nil && !done {
			t.Fatalf("%q: %q %v %v", b, chunk, done, err)
		}
	})
}

// collected is a sender that keeps what it is sent.
type collected struct {
	ms   []message
	fail error
}

func (c *collected) send(ms []message) error {
	for _, m := range ms {
		m.text = bytes.Clone(m.text)
		c.ms = append(c.ms, m)
	}
	return c.fail
}
func (c *collected) Close() error { return nil }

// Lines come out as they went in, over any cuts and any deaths of the daemon.
func FuzzLineSink(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), uint16(3), uint16(7))
	f.Add(bytes.Repeat([]byte("x"), 40000), uint16(16384), uint16(16385))
	f.Add([]byte(strings.Repeat("y", maxText)+"\nz\n"), uint16(1), uint16(maxText))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, p []byte, a, b uint16) {
		if err := os.RemoveAll(filepath.Join(dir, "unfinished-lines")); err != nil {
			t.Fatal(err)
		}
		to := &collected{}
		for i, cut := range [][]byte{p[:min(int(a), len(p))], p[min(int(a), len(p)):]} {
			s, err := newLineSink(to, dir) // the first is never closed
			if err != nil {
				t.Fatal(err)
			}
			for len(cut) > 0 {
				n := min(len(cut), int(b)+1)
				write(t, s, moss.Stdout, string(cut[:n]))
				cut = cut[n:]
			}
			if i == 1 {
				closeSink(t, s)
			}
		}
		var got []byte
		for _, m := range to.ms {
			if len(m.text) > maxText || bytes.IndexByte(m.text, '\n') >= 0 {
				t.Fatalf("a message of %d bytes: %.40q", len(m.text), m.text)
			}
			if got = append(got, m.text...); m.part.id == "" || m.part.last {
				got = append(got, '\n')
			}
		}
		if !bytes.Equal(got, p) {
			t.Fatalf("got %d bytes, want %d", len(got), len(p))
		}
	})
}

// Names that are fields of a record stand in it once: what the options choose
// goes before what docker says of each line, but not before what a piece is.
func TestFluentdNames(t *testing.T) {
	c := remoteContainer(t, "fluentd", map[string]string{"env": "source,partial_id", "fluentd-async": "true", "fluentd-address": "127.0.0.1:1"})
	to, err := dialFluentd(c)
	if err != nil {
		t.Fatal(err)
	}
	f := to.(*queue).to.(*fluentdSender)
	for _, k := range []struct {
		part partial
		id   string
	}{{partial{}, "mine"}, {partial{id: "p", ordinal: 1}, "p"}} {
		b := f.appendMessage(nil, &message{text: []byte("hi"), part: k.part}, "")
		rec := unpackValue(t, bufio.NewReader(bytes.NewReader(b))).([]any)[2].(map[string]any)
		if rec["source"] != "spring" || rec["partial_id"] != k.id || rec["log"] != "hi" {
			t.Errorf("%+v: %v", k.part, rec)
		}
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
}

// A whole line is packed without anything made for it, least of all the fields of a piece.
func TestFluentdPacksInPlace(t *testing.T) {
	c := remoteContainer(t, "fluentd", map[string]string{"env": "COLOUR", "fluentd-async": "true", "fluentd-address": "127.0.0.1:1"})
	to, err := dialFluentd(c)
	if err != nil {
		t.Fatal(err)
	}
	f := to.(*queue).to.(*fluentdSender)
	b, m := make([]byte, 0, 4096), message{text: []byte("hi"), at: time.Now()}
	if n := testing.AllocsPerRun(100, func() { b = f.appendMessage(b[:0], &m, "") }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
	rec := unpackValue(t, bufio.NewReader(bytes.NewReader(b))).([]any)[2].(map[string]any)
	if len(rec) != 5 || rec["log"] != "hi" || rec["COLOUR"] != "red" {
		t.Errorf("%v", rec)
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
}

// A server behind tls:// must have a certificate that the machine trusts.
func TestFluentdTLS(t *testing.T) {
	dir := t.TempDir()
	cert, ca := certificate(t, dir)
	ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{cert}}) //nolint:gosec // a test's
	defer ln.Close()
	got := make(chan any, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				if _, err := r.Peek(1); err == nil {
					got <- unpackValue(t, r)
				}
			}()
		}
	}()
	o := map[string]string{"fluentd-address": "tls://" + ln.Addr().String()}
	c := remoteContainer(t, "fluentd", o)
	if _, err := dialFluentd(c); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
	o["fluentd-async"] = "true"
	to, err := dialFluentd(c)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	f := to.(*queue).to.(*fluentdSender)
	f.server.address.tls.RootCAs = x509.NewCertPool()
	f.server.address.tls.RootCAs.AppendCertsFromPEM(pem)
	if err := f.send([]message{{text: []byte("hi"), at: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if rec := (<-got).([]any)[2].(map[string]any); rec["log"] != "hi" {
		t.Errorf("%v", rec)
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
}

// What waits for a server that is back when the run ends is sent then.
func TestFluentdAtTheEnd(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	at := ln.Addr().String()
	_ = ln.Close()
	c := remoteContainer(t, "fluentd", map[string]string{"fluentd-async": "true", "fluentd-retry-wait": "1h", "fluentd-address": at})
	s := openAny(t, New(), c)
	q := s.(*tee).to.(*locked).sink.(*lineSink).to.(*queue)
	tried := make(chan struct{}, 10)
	q.to = told{q.to, tried}
	write(t, s, moss.Stdout, "early\n")
	<-tried
	got := accepted(t, listen(t, "tcp", at))
	closeSink(t, s)
	select {
	case b := <-got:
		if !bytes.Contains(b, []byte("early")) {
			t.Errorf("got %q", b)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server was not tried again")
	}
}

// told tells when something was sent, well or not.
type told struct {
	sender
	tried chan<- struct{}
}

func (s told) send(ms []message) error {
	err := s.sender.send(ms)
	s.tried <- struct{}{}
	return err
}

func TestFluentdRenews(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	first := accepted(t, ln)
	c := remoteContainer(t, "fluentd", map[string]string{"fluentd-async-reconnect-interval": "100ms", "fluentd-address": ln.Addr().String()})
	to, err := dialFluentd(c)
	if err != nil {
		t.Fatal(err)
	}
	f := to.(*queue).to.(*fluentdSender)
	if err := f.send([]message{{text: []byte("young")}}); err != nil {
		t.Fatal(err)
	}
	f.wire.made = f.wire.made.Add(-time.Second)
	sent := make(chan error, 1)
	second := accepted(t, ln)
	go func() {
		sent <- f.send([]message{{text: []byte("old")}})
		_ = to.Close()
	}()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	young, old := <-first, <-second
	if bytes.Contains(young, []byte("old")) { // both were listening when the first came
		young, old = old, young
	}
	if !bytes.Contains(young, []byte("young")) || bytes.Contains(young, []byte("old")) {
		t.Errorf("the first connection got %q", young)
	}
	if !bytes.Contains(old, []byte("old")) || bytes.Contains(old, []byte("young")) {
		t.Errorf("the second connection got %q", old)
	}
}

// A server that does not read costs one wait, not one for each connection that
// its kernel still takes.
func TestStalledServer(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	defer ln.Close()
	dials := 0
	w := wire{timeout: 50 * time.Millisecond, dial: func(context.Context) (net.Conn, error) {
		dials++
		return net.Dial("tcp", ln.Addr().String())
	}}
	var err error
	for err == nil {
		err = w.write(make([]byte, 1<<20))
	}
	for range 100 {
		err = w.write([]byte("x"))
	}
	if !stalled(err) || dials != 1 {
		t.Errorf("%d connections, %v", dials, err)
	}
	wait := w.wait
	w.next = time.Time{}
	for err = nil; err == nil; {
		err = w.write(make([]byte, 1<<20))
	}
	if w.wait <= wait && wait != maxBackOff {
		t.Errorf("waits %v, then %v", wait, w.wait)
	}
}
