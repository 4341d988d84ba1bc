package logs

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/moss-containers/moss/pkg/moss"
)

var fluentdDriver = driver{
	options: slices.Concat(attrOptionNames, modeOptionNames, cacheOptionNames, []string{
		"fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
		"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
	}),
	check:  func(o map[string]string) error { _, err := parseFluentd(o); return err },
	dial:   dialFluentd,
	remote: true,
}

type fluentdServer struct {
	address           address
	async, ack, nanos bool
	buffer            int64
	retries           int
	retryWait         time.Duration
	writeTimeout      time.Duration
}

func parseFluentd(o map[string]string) (f fluentdServer, err error) {
	f = fluentdServer{address: address{network: "tcp", at: "127.0.0.1:24224"}, buffer: 1 << 20, retryWait: time.Second}
	if a := o["fluentd-address"]; a != "" {
		if !strings.Contains(a, "://") {
			a = "tcp://" + a
		}
		if f.address, err = parseAddress("fluentd-address", a, "24224", "tcp", "unix"); err != nil {
			return f, err
		}
	}
	for key, to := range map[string]*bool{"fluentd-async": &f.async, "fluentd-request-ack": &f.ack, "fluentd-sub-second-precision": &f.nanos} {
		if *to, err = parseBool(o, key, false); err != nil {
			return f, err
		}
	}
	if v, ok := o["fluentd-buffer-limit"]; ok {
		if f.buffer, err = units.RAMInBytes(v); err != nil || f.buffer < 1 {
			return f, moss.Errorf(moss.Invalid, "log opt 'fluentd-buffer-limit' must be a size like 8m, not '%s'", v)
		}
	}
	if f.retries, err = parseInt(o, "fluentd-max-retries", math.MaxInt32, 0, math.MaxInt32); err != nil {
		return f, err
	}
	for key, to := range map[string]*time.Duration{
		"fluentd-retry-wait": &f.retryWait, "fluentd-write-timeout": &f.writeTimeout, "fluentd-async-reconnect-interval": new(time.Duration),
	} {
		if err := parseDuration(o, key, to); err != nil {
			return f, err
		}
	}
	if _, ok := o["fluentd-async-reconnect-interval"]; ok {
		return f, moss.Errorf(moss.NotImplemented, "log opt 'fluentd-async-reconnect-interval' is not supported: a connection is made anew when it breaks; leave the option out")
	}
	return f, nil
}

func parseDuration(o map[string]string, key string, to *time.Duration) error {
	v, ok := o[key]
	if !ok {
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return moss.Errorf(moss.Invalid, "log opt '%s' must be a time like 500ms, not '%s'", key, v)
	}
	*to = d
	return nil
}

// fluentdSender sends lines by the forward protocol.
type fluentdSender struct {
	server fluentdServer
	tag    string
	fixed  []byte // the fields of every record, packed
	fields int
	wire   wire
}

func dialFluentd(c *moss.Container) (sender, error) {
	server, err := parseFluentd(c.Host.LogConfig.Options)
	if err != nil {
		return nil, err
	}
	f := &fluentdSender{server: server, wire: wire{dial: server.address.dial, timeout: server.writeTimeout}}
	if f.tag, err = tagOf(c, "{{.ID}}"); err != nil {
		return nil, err
	}
	m, err := extras(c, nil)
	if err != nil {
		return nil, err
	}
	m["container_id"], m["container_name"] = string(c.ID), "/"+c.Name
	f.fields = len(m)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f.fixed = packString(packString(f.fixed, k), m[k])
	}
	if err := f.wire.connect(); err != nil && !server.async && mustReach(c) {
		return nil, err
	}
	return newQueue(&queue{
		to: f, max: server.buffer, drops: server.async, attempts: server.retries, retry: server.retryWait, patience: maxBackOff,
	}), nil
}

func (f *fluentdSender) send(ms []message) error {
	if !f.server.ack {
		var b []byte
		for i := range ms {
			b = f.appendMessage(b, &ms[i], "")
		}
		return f.wire.write(b)
	}
	for i := range ms {
		if ms[i].sent { // a later one failed
			continue
		}
		id, _ := hex.DecodeString(moss.NewHexID()[:32])
		chunk := base64.StdEncoding.EncodeToString(id)
		if err := f.wire.write(f.appendMessage(nil, &ms[i], chunk)); err != nil {
			return err
		}
		if err := f.awaitAck(chunk); err != nil {
			f.wire.hangUp()
			return err
		}
		ms[i].sent = true
	}
	return nil
}

func (f *fluentdSender) awaitAck(chunk string) error {
	if err := f.wire.conn.SetReadDeadline(time.Now().Add(wireTimeout)); err != nil {
		return err
	}
	var buf [512]byte
	for n := 0; n < len(buf); {
		m, err := f.wire.conn.Read(buf[n:])
		n += m
		if got, done, bad := unpackAck(buf[:n]); done {
			if bad == nil && got != chunk {
				bad = errAck
			}
			return bad
		}
		if err != nil {
			return err
		}
	}
	return errAck
}

// appendMessage appends an event: tag, time, record, options.
func (f *fluentdSender) appendMessage(b []byte, m *message, chunk string) []byte {
	b = packString(append(b, 0x94), f.tag)
	if f.server.nanos {
		b = packEventTime(b, m.at)
	} else {
		b = packSeconds(b, m.at)
	}
	n := f.fields + 2
	if m.part.id != "" {
		n += 3
		if m.part.more() {
			n++
		}
	}
	b = append(packMapHead(b, n), f.fixed...)
	b = packString(packString(b, "source"), streamName(m.kind))
	b = packString(packString(b, "log"), string(m.text))
	if p := m.part; p.id != "" {
		b = packString(packString(b, "partial_id"), p.id)
		b = packString(packString(b, "partial_ordinal"), strconv.Itoa(p.ordinal))
		b = packString(packString(b, "partial_last"), strconv.FormatBool(p.last))
		if p.more() {
			b = packString(packString(b, "partial_message"), "true")
		}
	}
	if chunk == "" {
		return append(b, 0xc0)
	}
	return packString(packString(packMapHead(b, 1), "chunk"), chunk)
}

func (f *fluentdSender) Close() error { return f.wire.Close() }
