package logs

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	gelfChunk  = 1420 // bytes of a datagram, its head included
	gelfHead   = 12
	gelfChunks = 128 // the most that a message may have
)

var gelfDriver = driver{
	options: slices.Concat(attrOptionNames, modeOptionNames, cacheOptionNames, []string{
		"gelf-address", "gelf-compression-type", "gelf-compression-level", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay",
	}),
	check:  func(o map[string]string) error { _, err := parseGelf(o); return err },
	asked:  func(o map[string]string) error { return wantPort("gelf-address", o["gelf-address"]) },
	dial:   dialGelf,
	remote: true,
}

type gelfServer struct {
	address    address
	compress   string // gzip, zlib or none
	level      int
	reconnects int
	delay      time.Duration
}

func parseGelf(o map[string]string) (g gelfServer, err error) {
	g = gelfServer{compress: "gzip", level: 1, reconnects: 3, delay: time.Second}
	if o["gelf-address"] == "" {
		return g, moss.Errorf(moss.Invalid, "gelf-address is a required parameter")
	}
	if g.address, err = parseAddress("gelf-address", o["gelf-address"], "12201", "udp", "tcp"); err != nil {
		return g, err
	}
	for _, k := range []struct{ key, network string }{
		{"gelf-compression-type", "udp"},
		{"gelf-compression-level", "udp"},
		{"gelf-tcp-max-reconnect", "tcp"},
		{"gelf-tcp-reconnect-delay", "tcp"},
	} {
		if _, ok := o[k.key]; ok && g.address.network != k.network {
			return g, moss.Errorf(moss.Invalid, "log opt '%s' needs a gelf-address that begins with %s://", k.key, k.network)
		}
	}
	if v := o["gelf-compression-type"]; v != "" {
		if g.compress = v; !slices.Contains([]string{"gzip", "zlib", "none"}, v) {
			return g, moss.Errorf(moss.Invalid, "log opt 'gelf-compression-type' must be gzip, zlib or none, not '%s'", v)
		}
	}
	if g.level, err = parseInt(o, "gelf-compression-level", g.level, -1, 9); err != nil {
		return g, err
	}
	if g.reconnects, err = parseInt(o, "gelf-tcp-max-reconnect", g.reconnects, 0, 1<<20); err != nil {
		return g, err
	}
	seconds, err := parseInt(o, "gelf-tcp-reconnect-delay", 1, 0, 3600)
	g.delay = time.Duration(seconds) * time.Second
	return g, err
}

// parseInt reads a number between bounds.
func parseInt(o map[string]string, key string, fallback, low, high int) (int, error) {
	v, ok := o[key]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, moss.Errorf(moss.Invalid, "log opt '%s' must be a number from %d to %d, not '%s'", key, low, high, v)
	}
	return n, nil
}

// gelfSender sends lines in the Graylog extended log format.
type gelfSender struct {
	server gelfServer
	fixed  map[string]any
	wire   wire
}

func dialGelf(c *moss.Container) (sender, error) {
	server, err := parseGelf(c.Host.LogConfig.Options)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	tag, err := tagOf(c, "{{.ID}}")
	if err != nil {
		return nil, err
	}
	more, err := extras(c, func(k string) string { return "_" + strings.TrimPrefix(k, "_") })
	if err != nil {
		return nil, err
	}
	i := infoOf(c)
	g := &gelfSender{server: server, fixed: map[string]any{
		"version": "1.1", "host": host,
		"_container_id": i.FullID(), "_container_name": i.Name(), "_image_id": i.ImageFullID(), "_image_name": i.ImageName(),
		"_command": i.Command(), "_tag": tag, "_created": c.Created,
	}}
	for k, v := range more {
		g.fixed[k] = v
	}
	g.wire = wire{dial: server.address.dial}
	if err := g.wire.connect(); err != nil && mustReach(c) {
		return nil, err
	}
	return g, nil
}

func (g *gelfSender) send(ms []message) error {
	var stream bytes.Buffer
	for i := range ms {
		if len(ms[i].text) == 0 {
			continue // the format wants a text
		}
		b, err := g.encode(&ms[i])
		if err != nil {
			return err
		}
		if g.server.address.network == "tcp" {
			stream.Write(append(b, 0))
			continue
		}
		if err := g.sendDatagrams(b); err != nil {
			return err
		}
	}
	if stream.Len() == 0 {
		return nil
	}
	return g.retry(stream.Bytes())
}

// retry writes with as many new connections as the options allow. The first
// failure costs the waits, what comes in the time after it does not.
func (g *gelfSender) retry(b []byte) error {
	fresh := g.wire.next.IsZero() || time.Now().After(g.wire.next)
	err := g.wire.write(b)
	for n := 0; err != nil && fresh && !stalled(err) && n < g.server.reconnects; n++ {
		<-time.After(g.server.delay)
		g.wire.next = time.Time{}
		err = g.wire.write(b)
	}
	return err
}

func (g *gelfSender) encode(m *message) ([]byte, error) {
	level := 6
	if m.kind == moss.Stderr {
		level = 3
	}
	g.fixed["short_message"], g.fixed["level"] = string(m.text), level
	g.fixed["timestamp"] = json.Number(strconv.FormatFloat(float64(m.at.UnixMilli())/1000, 'f', 3, 64))
	return json.Marshal(g.fixed)
}

func (g *gelfSender) sendDatagrams(b []byte) error {
	p, err := g.squeeze(b)
	if err != nil {
		return err
	}
	chunks, err := gelfDatagrams(p, rand.Uint64())
	if err != nil {
		return err
	}
	for _, c := range chunks {
		if err := g.wire.write(c); err != nil {
			return err
		}
	}
	return nil
}

func (g *gelfSender) squeeze(b []byte) ([]byte, error) {
	var out bytes.Buffer
	var z io.WriteCloser
	var err error
	switch g.server.compress {
	case "gzip":
		z, err = gzip.NewWriterLevel(&out, g.server.level)
	case "zlib":
		z, err = zlib.NewWriterLevel(&out, g.server.level)
	default:
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// gelfDatagrams cuts a message into chunks where it needs several.
func gelfDatagrams(p []byte, id uint64) ([][]byte, error) {
	if len(p) <= gelfChunk {
		return [][]byte{p}, nil
	}
	const room = gelfChunk - gelfHead
	n := (len(p) + room - 1) / room
	if n > gelfChunks {
		return nil, moss.Errorf(moss.Invalid, "a message of %d bytes needs %d chunks, and gelf allows %d", len(p), n, gelfChunks)
	}
	var out [][]byte
	for i := range n {
		head := []byte{0x1e, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, byte(i), byte(n)}
		for k := range 8 {
			head[2+k] = byte(id >> (8 * k))
		}
		out = append(out, append(head, p[i*room:min(len(p), (i+1)*room)]...))
	}
	return out, nil
}

func (g *gelfSender) Close() error { return g.wire.Close() }
