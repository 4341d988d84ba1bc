package logs

import (
	"cmp"
	"crypto/tls"
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
		"fluentd-read-timeout", "fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
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
	readTimeout       time.Duration // of an acknowledgement
	writeTimeout      time.Duration
	renew             time.Duration // the age at which a connection is made anew; 0 for never
}

func parseFluentd(o map[string]string) (f fluentdServer, err error) {
	f = fluentdServer{address: address{network: "tcp", at: "127.0.0.1:24224"}, buffer: 1 << 20, retryWait: time.Second}
	if a := o["fluentd-address"]; a != "" {
		if !strings.Contains(a, "://") {
			a = "tcp://" + a
		}
		if f.address, err = parseAddress("fluentd-address", a, "24224", "tcp", "tls", "unix"); err != nil {
			return f, err
		}
		if f.address.network == "tls" {
			f.address.network, f.address.tls = "tcp", &tls.Config{MinVersion: tls.VersionTLS12}
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
		"fluentd-retry-wait": &f.retryWait, "fluentd-async-reconnect-interval": &f.renew,
		"fluentd-read-timeout": &f.readTimeout, "fluentd-write-timeout": &f.writeTimeout,
	} {
		if err := parseDuration(o, key, to); err != nil {
			return f, err
		}
	}
	if f.renew != 0 && (f.renew < 100*time.Millisecond || f.renew > 10*time.Second) {
		return f, moss.Errorf(moss.Invalid, "log opt 'fluentd-async-reconnect-interval' must be a time from 100ms to 10s, not '%s'", o["fluentd-async-reconnect-interval"])
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

// fluentdPartial are the fields of a piece of a line.
var fluentdPartial = [...]string{"partial_message", "partial_id", "partial_ordinal", "partial_last"}

// fluentdSender sends lines by the forward protocol.
type fluentdSender struct {
	server      fluentdServer
	tag         string
	piece       fluentdFields // of every record of a piece of a line
	whole       fluentdFields // of every other record
	source, log bool          // no label or variable is called so
	wire        wire
}

// fluentdFields are fields of a record, packed.
type fluentdFields struct {
	packed []byte
	n      int
}

func (f *fluentdFields) add(m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f.packed = packString(packString(f.packed, k), m[k])
	}
	f.n += len(m)
}

func dialFluentd(c *moss.Container) (sender, error) {
	server, err := parseFluentd(c.Host.LogConfig.Options)
	if err != nil {
		return nil, err
	}
	f := &fluentdSender{server: server, wire: wire{dial: server.address.dial, timeout: server.writeTimeout, renew: server.renew, mute: !server.ack}}
	if f.tag, err = tagOf(c, "{{.ID}}"); err != nil {
		return nil, err
	}
	m, err := extras(c, nil)
	if err != nil {
		return nil, err
	}
	_, source := m["source"]
	_, log := m["log"]
	f.source, f.log = !source, !log
	for k, v := range map[string]string{"container_id": string(c.ID), "container_name": "/" + c.Name} {
		if _, ok := m[k]; !ok { // what is chosen goes first, as with docker
			m[k] = v
		}
	}
	f.whole.add(m)
	for _, k := range fluentdPartial {
		delete(m, k) // of a line's own; a name must not stand twice in a record
	}
	f.piece.add(m)
	if err := f.wire.connect(); err != nil && !server.async && mustReach(c) {
		return nil, err
	}
	return newQueue(&queue{
		to: f, max: server.buffer, drops: server.async, attempts: server.retries, retry: server.retryWait, patience: maxBackOff,
	}), nil
}

func (f *fluentdSender) send(ms []message) error {
	f.wire.next = time.Time{} // the queue says when
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
	if err := f.wire.conn.SetReadDeadline(time.Now().Add(cmp.Or(f.server.readTimeout, wireTimeout))); err != nil {
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
	fields, own := f.whole, 0
	if m.part.id != "" {
		fields, own = f.piece, len(fluentdPartial)
	}
	for _, has := range []bool{f.source, f.log} {
		if has {
			own++
		}
	}
	b = append(packMapHead(b, fields.n+own), fields.packed...)
	if f.source {
		b = packString(packString(b, "source"), streamName(m.kind))
	}
	if f.log {
		b = packString(packString(b, "log"), m.text)
	}
	if m.part.id != "" {
		for i, v := range []string{"true", m.part.id, strconv.Itoa(m.part.ordinal), strconv.FormatBool(m.part.last)} {
			b = packString(packString(b, fluentdPartial[i]), v)
		}
	}
	if chunk == "" {
		return append(b, 0xc0)
	}
	return packString(packString(packMapHead(b, 1), "chunk"), chunk)
}

func (f *fluentdSender) Close() error { return f.wire.Close() }
