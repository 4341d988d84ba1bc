package rootless

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// PortID is the holder's number for a published port, unique while it runs.
type PortID int

// PortSpec is a port of the host that leads to a port in the detached network
// namespace.
type PortSpec struct {
	Proto     string     // "tcp" or "udp"
	HostIP    netip.Addr // address to listen on; the zero Addr means all, of both families
	HostPort  uint16
	ChildIP   netip.Addr // whom to reach: a container's address
	ChildPort uint16
}

func (s PortSpec) String() string {
	host := "*"
	if s.HostIP.IsValid() {
		host = s.HostIP.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(s.HostPort))) + "/" + s.Proto
}

// Port is a published port.
type Port struct {
	ID   PortID
	Spec PortSpec
}

// Why a port cannot be published or taken back; a [PortError] wraps them.
var (
	ErrPortInUse      = errors.New("port is already in use")
	ErrPortPrivileged = errors.New("port is privileged")
	ErrPortProto      = errors.New("protocol cannot be published")
	ErrPortAddress    = errors.New("address is not this machine's")
	ErrPortUnknown    = errors.New("port is not published")
)

// PortError is an error about one port. Reason is one of the ErrPort values, or
// nil where the holder answered something else.
type PortError struct {
	Op     string // "publish" or "unpublish"
	Port   string
	Reason error
	Detail string // what the holder said, with the way out where it knows one
	By     string // with ErrPortInUse: who has it, "" where that could not be found
}

// TakenBy comes before the one who has a port, in a holder's refusal.
const TakenBy = ": taken by "

// TakenBy is who has the port, "" where that could not be found.
func (e *PortError) TakenBy() string { return e.By }

func (e *PortError) Error() string {
	switch {
	case e.Reason == nil:
		return fmt.Sprintf("cannot %s %s: %s", e.Op, e.Port, e.Detail)
	case e.Detail == "":
		return fmt.Sprintf("cannot %s %s: %v", e.Op, e.Port, e.Reason)
	}
	return fmt.Sprintf("cannot %s %s: %v: %s", e.Op, e.Port, e.Reason, e.Detail)
}

func (e *PortError) Unwrap() error { return e.Reason }

// Ports publishes ports through a holder's API. It is safe for concurrent use.
// Published ports end with the holder, not with the caller.
type Ports struct {
	http *http.Client
}

// NewPorts makes a client for the holder of a state directory. Nothing is dialed
// yet; each call says [ErrNotRunning] while no holder answers.
func NewPorts(stateDir string) *Ports {
	sock := filepath.Join(stateDir, APISockFile)
	return &Ports{http: &http.Client{Transport: &http.Transport{
		// The holder may be restarted at any time: a kept connection is a wrong one.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", sock)
			if err != nil {
				return nil, errors.Join(ErrNotRunning, err)
			}
			return c, nil
		},
	}}}
}

// wireSpec and wirePort are rootlesskit's API, version 1 (its pkg/api/openapi.yaml).
type wireSpec struct {
	Proto      string `json:"proto,omitempty"`
	ParentIP   string `json:"parentIP,omitempty"`
	ParentPort int    `json:"parentPort,omitempty"`
	ChildPort  int    `json:"childPort,omitempty"`
	ChildIP    string `json:"childIP,omitempty"`
}

type wirePort struct {
	ID   int      `json:"id"`
	Spec wireSpec `json:"spec"`
}

func toWire(s PortSpec) wireSpec {
	w := wireSpec{Proto: s.Proto, ParentPort: int(s.HostPort), ChildPort: int(s.ChildPort), ChildIP: s.ChildIP.String()}
	if s.HostIP.IsValid() {
		w.ParentIP = s.HostIP.String()
		// "tcp" on 0.0.0.0 would listen on :: too, and a second port there fail.
		if s.HostIP.Unmap().Is4() {
			w.Proto += "4"
		} else {
			w.Proto += "6"
		}
	}
	return w
}

func fromWire(w wireSpec) (PortSpec, error) {
	if w.ParentPort < 0 || w.ParentPort > math.MaxUint16 || w.ChildPort < 0 || w.ChildPort > math.MaxUint16 {
		return PortSpec{}, fmt.Errorf("the holder tells of the ports %d and %d, which there are not", w.ParentPort, w.ChildPort)
	}
	s := PortSpec{
		Proto: strings.TrimRight(w.Proto, "46"), HostPort: uint16(w.ParentPort), ChildPort: uint16(w.ChildPort),
	}
	s.HostIP, _ = netip.ParseAddr(w.ParentIP) // empty: the zero Addr
	s.ChildIP, _ = netip.ParseAddr(w.ChildIP)
	return s, nil
}

// Add publishes a port and returns once connections are accepted. The error is a
// [PortError] where the holder refuses.
func (p *Ports) Add(ctx context.Context, s PortSpec) (PortID, error) {
	fail := func(reason error, detail string) (PortID, error) {
		detail, by, _ := strings.Cut(detail, TakenBy)
		return 0, &PortError{Op: "publish", Port: s.String(), Reason: reason, Detail: detail, By: by}
	}
	if s.Proto != "tcp" && s.Proto != "udp" {
		return fail(ErrPortProto, "use tcp or udp")
	}
	if s.HostPort == 0 || s.ChildPort == 0 || !s.ChildIP.IsValid() {
		return fail(nil, "host port, container port and container address must be given")
	}
	body, err := json.Marshal(toWire(s))
	if err != nil {
		return 0, fmt.Errorf("cannot publish %s: %w", s, err)
	}
	var out wirePort
	switch msg, err := p.call(ctx, http.MethodPost, "/v1/ports", body, &out); {
	case err != nil:
		return 0, fmt.Errorf("cannot publish %s: %w", s, err)
	case msg != "":
		return fail(reason(msg), msg)
	}
	return PortID(out.ID), nil
}

// Remove takes a port back: it no longer listens, its connections are cut.
func (p *Ports) Remove(ctx context.Context, id PortID) error {
	switch msg, err := p.call(ctx, http.MethodDelete, "/v1/ports/"+strconv.Itoa(int(id)), nil, nil); {
	case err != nil:
		return fmt.Errorf("cannot unpublish port %d: %w", id, err)
	case msg != "":
		return &PortError{Op: "unpublish", Port: "port " + strconv.Itoa(int(id)), Reason: reason(msg), Detail: msg}
	}
	return nil
}

// List returns what is published, in no order.
func (p *Ports) List(ctx context.Context) ([]Port, error) {
	var out []wirePort
	switch msg, err := p.call(ctx, http.MethodGet, "/v1/ports", nil, &out); {
	case err != nil:
		return nil, fmt.Errorf("cannot list published ports: %w", err)
	case msg != "":
		return nil, fmt.Errorf("cannot list published ports: %s", msg)
	}
	ports := make([]Port, len(out))
	for i, w := range out {
		spec, err := fromWire(w.Spec)
		if err != nil {
			return nil, fmt.Errorf("cannot list published ports: %w", err)
		}
		ports[i] = Port{ID: PortID(w.ID), Spec: spec}
	}
	return ports, nil
}

// Ping returns nil when the holder's API answers.
func (p *Ports) Ping(ctx context.Context) error {
	_, err := p.call(ctx, http.MethodGet, "/v1/info", nil, &struct{}{})
	return err
}

// call does one request. refusal is the holder's own text where it says no.
func (p *Ports) call(ctx context.Context, method, path string, body []byte, out any) (refusal string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://rootlesskit"+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return "", err
		}
		var e struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(data, &e) == nil && e.Message != "" {
			return e.Message, nil
		}
		return fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(data)), nil
	}
	if out == nil {
		return "", nil
	}
	return "", json.NewDecoder(resp.Body).Decode(out)
}

// reason classes the holder's text: its API gives every refusal status 400.
func reason(msg string) error {
	for _, c := range []struct {
		text string
		err  error
	}{
		{"address already in use", ErrPortInUse},
		{"conflict with ID", ErrPortInUse},
		{"privileged port", ErrPortPrivileged},
		{"permission denied", ErrPortPrivileged},
		{"cannot assign requested address", ErrPortAddress},
		{"unknown id", ErrPortUnknown},
		{"unknown proto", ErrPortProto},
		{"unsupported port protocol", ErrPortProto},
	} {
		if strings.Contains(msg, c.text) {
			return c.err
		}
	}
	return nil
}
