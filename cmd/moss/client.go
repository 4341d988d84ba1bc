package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/config"
)

// api connects to the engine; the connection is made at the first request.
func (a *app) api() (*client.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	if strings.HasPrefix(a.hostURL(), "ssh://") { // the library takes it for a name of TCP
		return nil, fmt.Errorf("cannot use the engine's address %q: moss speaks no ssh: run docker with it, or forward the engine's socket with ssh -NL and name that as unix://", a.hostURL())
	}
	secure, err := a.secure()
	if err != nil {
		return nil, fmt.Errorf("cannot use the engine's address %q: %w", a.hostURL(), err)
	}
	c, err := client.New(append(secure, client.WithHost(a.hostURL()), client.WithHTTPHeaders(a.traceHeaders()))...)
	if err != nil {
		return nil, fmt.Errorf("cannot use the engine's address %q: %w", a.hostURL(), err)
	}
	a.client = c
	return c, nil
}

func (a *app) close() {
	if a.client != nil {
		_ = a.client.Close() // idle connections only
	}
}

// hostURL is the engine's address: the flag, $MOSS_HOST, $DOCKER_HOST, or the
// socket that moss.socket listens on.
func (a *app) hostURL() string {
	for _, h := range []string{a.host, a.getenv("MOSS_HOST"), a.getenv("DOCKER_HOST")} {
		if h != "" {
			return h
		}
	}
	dir := a.getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/run/user/" + strconv.Itoa(os.Getuid())
	}
	return "unix://" + filepath.Join(dir, "moss", "moss.sock")
}

// prefix is what the units of the engine at this address begin with: the name
// of the directory that its socket is in.
func (a *app) prefix() string {
	if path, ok := strings.CutPrefix(a.hostURL(), "unix://"); ok && filepath.Base(path) == "moss.sock" {
		return filepath.Base(filepath.Dir(path))
	}
	return config.DefaultPrefix
}

// message makes an error of the API readable: what the daemon said, or how to
// get a daemon.
func message(err error) string {
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "cannot trust the engine: " + bad.Err.Error() + "\nits certificate is cert.pem where it runs; a renewed one is in force after: systemctl --user reload moss"
	}
	if hungUp(err) {
		return "the engine was stopped or restarted before it had answered: containers run on, and what it was asked for may have been done"
	}
	if client.IsErrConnectionFailed(err) {
		return "cannot reach the engine: " + strings.TrimSuffix(err.Error(), ".") + "\nset it up with: moss setup; if it is, its log tells more: journalctl --user -u moss -n 20"
	}
	return err.Error()
}

// hungUp says whether the daemon ended while it worked on a request. The client
// knows some of the errors by their text only. Those of files are of this side's.
func hungUp(err error) bool {
	if _, file := errors.AsType[*fs.PathError](err); file {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.HasSuffix(err.Error(), net.ErrClosed.Error()) || // while it sent
		err.Error() == "EOF" || client.IsErrConnectionFailed(err) && strings.HasSuffix(err.Error(), ": EOF")
}
