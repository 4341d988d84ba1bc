package secret

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// CredentialsSocket is where systemd 256 and later seal and unseal for users.
const CredentialsSocket = "/run/systemd/io.systemd.Credentials"

// sealTime bounds one call; a TPM takes its time.
const sealTime = 30 * time.Second

// callWidth is how many calls are under way at a time: the service drops what
// one user has beyond 16, and the user may have others that call it.
const callWidth = 4

// A dropped connection is tried again, later each time.
const (
	callTries = 6
	firstWait = 20 * time.Millisecond
)

// maxReply bounds an answer, in bytes: a content in base64, and then some.
const maxReply = 4 << 20

// Credentials seals by systemd's service, which binds what it seals to the
// machine and to the calling user: varlink (https://varlink.org) over a unix
// socket, one call a connection.
type Credentials struct {
	socket string
	slots  chan struct{}
}

// NewCredentials calls the service at a socket; it need not be there.
func NewCredentials(socket string) *Credentials {
	return &Credentials{socket: socket, slots: make(chan struct{}, callWidth)}
}

// scope makes the service take the user whom the socket says is calling.
const scope = "user"

var errNothing = errors.New("systemd's service for credentials answers with nothing")

type sealCall struct {
	Name  string `json:"name"`
	Data  []byte `json:"data,omitempty"`
	Blob  string `json:"blob,omitempty"`
	Scope string `json:"scope"`
}

// Seal encrypts data for this user on this machine. It fails with ErrNoSealer
// where there is no such service.
func (c *Credentials) Seal(ctx context.Context, name string, data []byte) (string, error) {
	var out struct {
		Blob string `json:"blob"`
	}
	err := c.call(ctx, "io.systemd.Credentials.Encrypt", sealCall{Name: name, Data: data, Scope: scope}, &out)
	if err == nil && out.Blob == "" {
		err = errNothing
	}
	return out.Blob, err
}

// Unseal decrypts what Seal gave.
func (c *Credentials) Unseal(ctx context.Context, name, blob string) ([]byte, error) {
	var out struct {
		Data []byte `json:"data"`
	}
	err := c.call(ctx, "io.systemd.Credentials.Decrypt", sealCall{Name: name, Blob: blob, Scope: scope}, &out)
	if errors.Is(err, ErrNoSealer) {
		return nil, moss.Errorf(moss.Unavailable, "%w at %s: it was sealed by systemd 256 or later", err, c.socket)
	}
	if err == nil && len(out.Data) == 0 { // nothing empty was ever sealed
		err = errNothing
	}
	return out.Data, err
}

func (c *Credentials) call(ctx context.Context, method string, in, out any) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return fmt.Errorf("cannot talk to systemd's service for credentials, which others wait for: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, sealTime)
	defer cancel()
	var reply varlinkReply
	for n, wait := 1, firstWait; ; n, wait = n+1, 2*wait {
		var err error
		if reply, err = c.once(ctx, method, in); err == nil {
			break
		}
		if errors.Is(err, ErrNoSealer) || n == callTries || !dropped(err) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	return reply.result(out)
}

// dropped says whether the service closed the connection in the place of an answer.
func dropped(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// once is one try of a call.
func (c *Credentials) once(ctx context.Context, method string, in any) (varlinkReply, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return varlinkReply{}, ErrNoSealer
	}
	if err != nil {
		return varlinkReply{}, fmt.Errorf("cannot reach systemd's service for credentials: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // never fails on an open one
	defer func() { stop(); _ = conn.Close() }()                                      // it was told all
	reply, err := exchange(conn, method, in)
	if err != nil {
		return reply, fmt.Errorf("cannot talk to systemd's service for credentials: %w", errors.Join(err, ctx.Err()))
	}
	return reply, nil
}

type varlinkReply struct {
	Error      string          `json:"error"`
	Parameters json.RawMessage `json:"parameters"`
}

// result reads what was answered, or says why there is nothing.
func (r varlinkReply) result(out any) error {
	switch r.Error {
	case "":
		return understood(json.Unmarshal(r.Parameters, out))
	case "org.varlink.service.InterfaceNotFound", "org.varlink.service.MethodNotFound":
		return ErrNoSealer
	}
	return fmt.Errorf("systemd's service for credentials refuses: %s", moss.Shown(r.Error+" "+string(r.Parameters)))
}

// understood gives a failure to decode its subject; it may quote a number of any length.
func understood(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("systemd's service for credentials answers what cannot be read: %s", moss.Shown(err.Error()))
}

// exchange is one call and its answer; each ends with a NUL.
func exchange(conn net.Conn, method string, in any) (varlinkReply, error) {
	text, err := json.Marshal(map[string]any{"method": method, "parameters": in})
	if err != nil {
		return varlinkReply{}, err
	}
	if _, err := conn.Write(append(text, 0)); err != nil {
		return varlinkReply{}, err
	}
	return readReply(conn)
}

func readReply(r io.Reader) (varlinkReply, error) {
	var reply varlinkReply
	answer, err := bufio.NewReader(io.LimitReader(r, maxReply)).ReadBytes(0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return reply, err
	}
	return reply, understood(json.Unmarshal(answer[:len(answer)-1], &reply))
}
