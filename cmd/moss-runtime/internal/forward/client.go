package forward

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// client asks the engine by the Docker Engine API, in the little HTTP it needs:
// net/http would be a third of the program, which every start of a container
// pays for.
type client struct{ socket, id string }

const mostAnswer = 8 << 20

func (c client) call(ctx context.Context, method, path string) (status int, body []byte, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot reach the engine: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	// HTTP/1.0: the answer ends with the connection.
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: moss\r\nContent-Length: 0\r\n\r\n", method, path); err != nil {
		return 0, nil, fmt.Errorf("cannot ask the engine: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(bufio.NewReader(conn), mostAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read the engine's answer: %w", err)
	}
	return decode(answer)
}

// decode reads an answer of HTTP/1.0.
func decode(answer []byte) (status int, body []byte, err error) {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	fields := bytes.Fields(line)
	if !ok || len(fields) < 2 {
		return 0, nil, fmt.Errorf("the engine's answer ends early: %.200q", head)
	}
	if status, err = strconv.Atoi(string(fields[1])); err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.")) || status < 100 || status > 599 {
		return 0, nil, fmt.Errorf("cannot read the engine's answer: it begins with %.200q", line)
	}
	if status >= 400 {
		var why struct{ Message string }
		_ = json.Unmarshal(body, &why) // without words the status has to do
		return status, body, fmt.Errorf("the engine answers %d: %s", status, why.Message)
	}
	return status, body, nil
}

func (c client) start(ctx context.Context) error {
	_, _, err := c.call(ctx, "POST", "/containers/"+c.id+"/start")
	return err
}

func (c client) stop(ctx context.Context) error {
	_, _, err := c.call(ctx, "POST", "/containers/"+c.id+"/stop")
	return err
}

func (c client) wait(ctx context.Context) error {
	_, _, err := c.call(ctx, "POST", "/containers/"+c.id+"/wait?condition=not-running")
	return err
}

func (c client) address(ctx context.Context) (netip.Addr, error) {
	_, body, err := c.call(ctx, "GET", "/containers/"+c.id+"/json")
	if err != nil {
		return netip.Addr{}, err
	}
	return addressIn(body)
}

// addressIn finds the address to connect to in what inspect says: the least in
// networks with a way out if there is one, else the least.
func addressIn(text []byte) (netip.Addr, error) {
	var in struct {
		State           struct{ Running, Restarting bool }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address, Gateway, IPv6Gateway string }
		}
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return netip.Addr{}, fmt.Errorf("cannot read the engine's answer: %w", err)
	}
	if !in.State.Running || in.State.Restarting {
		return netip.Addr{}, nil
	}
	var best netip.Addr
	bestOut := false
	for _, n := range in.NetworkSettings.Networks { // in any order
		for _, a := range []struct{ address, gateway string }{{n.IPAddress, n.Gateway}, {n.GlobalIPv6Address, n.IPv6Gateway}} {
			addr, err := netip.ParseAddr(a.address)
			if err != nil || addr.IsUnspecified() { // the latter is this host itself
				continue
			}
			out := a.gateway != ""
			if !best.IsValid() || out && !bestOut || out == bestOut && addr.Less(best) {
				best, bestOut = addr, out
			}
		}
	}
	if !best.IsValid() {
		return best, fmt.Errorf("the container runs, and is in no network")
	}
	return best, nil
}
