package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/config"
)

// listeners are systemd's sockets, or the engine's own one when nobody passed
// any, and those of hosts.
func (d *daemon) listeners(ctx context.Context) (all []net.Listener, err error) {
	all = d.files.Listeners(d.cfg.Prefix + ".socket")
	inherited := len(all) // who cannot start says so there
	defer func() {
		if err != nil {
			for _, l := range all[inherited:] {
				err = errors.Join(err, l.Close())
			}
		}
	}()
	ctx = context.WithoutCancel(ctx) // a call cut short would not tell that someone is there
	if inherited == 0 {
		l, err := listenUnix(ctx, d.cfg.Socket())
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	for _, s := range d.cfg.Hosts {
		h, err := config.ParseHost(s)
		if err != nil {
			return all, err
		}
		if h.Net == "unix" && slices.ContainsFunc(all, func(l net.Listener) bool { return l.Addr().String() == h.Addr }) {
			continue // systemd's
		}
		l, err := d.listen(ctx, h)
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (d *daemon) listen(ctx context.Context, h config.Host) (net.Listener, error) {
	if h.Net == "unix" {
		return listenUnix(ctx, h.Addr)
	}
	if d.cfg.Encrypted() {
		if err := d.certs.read(d.cfg.Config); err != nil {
			return nil, err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at tcp://%s: %w", h.Addr, err)
	}
	if !d.cfg.Encrypted() {
		d.warn("WARNING: API is accessible on http://" + l.Addr().String() + " without encryption: every user of this machine can do all that you can. Set tlsverify, or leave tcp:// out of hosts")
		return l, nil
	}
	if !d.cfg.TLSVerify {
		d.warn("WARNING: API is accessible on https://" + l.Addr().String() + " without TLS client verification: every user of this machine can do all that you can. Set tlsverify")
	}
	return tls.NewListener(l, d.certs.config()), nil
}

// warn tells in the log and in info.
func (d *daemon) warn(text string) {
	d.log.Warn("what info warns of", "warning", text)
	d.host.warn(text)
}

// listenUnix makes a socket that only its owner can open.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // it only told that someone is there
		return nil, fmt.Errorf("cannot listen at %s: another daemon does", path)
	}
	switch st, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	case st.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("cannot listen at %s: there is something else than a socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := unix.Umask(0o177)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	return l, nil
}

// serving tells where, for systemctl status.
func (d *daemon) serving(all []net.Listener) string {
	names := make([]string, 0, len(all))
	for _, l := range all {
		name := l.Addr().String()
		if l.Addr().Network() == "tcp" {
			name = "tcp://" + name
		}
		names = append(names, name)
	}
	return "serving " + strings.Join(names, ", ")
}
