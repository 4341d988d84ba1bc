package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/moss-containers/moss/cmd/moss/dockerconfig"
)

func (a *app) login(c *cli.Context) error {
	if err := a.checkLogin(c); err != nil {
		return err
	}
	cfg, err := dockerconfig.Load(a.getenv)
	if err != nil {
		return err
	}
	server := serverKey(c.Args().First())
	auth := registry.AuthConfig{ServerAddress: server, Username: c.String("username"), Password: c.String("password")}
	if auth.Username == "" && auth.Password == "" {
		if done, err := a.loginAgain(c.Context, cfg, server); done || err != nil {
			return err
		}
	}
	if err := a.askFor(c, &auth); err != nil {
		return err
	}
	return a.loginAs(c.Context, cfg, auth)
}

func (a *app) checkLogin(c *cli.Context) error {
	switch {
	case c.IsSet("password") && c.Bool("password-stdin"):
		return &status{1, "--password and --password-stdin are mutually exclusive"}
	case c.Bool("password-stdin") && c.String("username") == "":
		return &status{1, "Must provide --username with --password-stdin"}
	case c.IsSet("password"):
		fmt.Fprintln(a.err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	return nil
}

// loginAgain tries what an earlier login left; a refusal is not the end.
func (a *app) loginAgain(ctx context.Context, cfg *dockerconfig.Config, server string) (done bool, err error) {
	auth, err := cfg.Get(server)
	if err != nil {
		return false, err
	}
	if h, err := header(auth); err != nil || h == "" {
		return false, err
	}
	fmt.Fprintln(a.out, "Authenticating with existing credentials...")
	err = a.loginAs(ctx, cfg, auth)
	if errdefs.IsUnauthorized(err) {
		fmt.Fprintf(a.err, "Login did not succeed, error: %s\n", message(err))
		return false, nil
	}
	return true, err
}

// loginAs has the engine try the credentials and keeps them.
func (a *app) loginAs(ctx context.Context, cfg *dockerconfig.Config, auth registry.AuthConfig) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	got, err := api.RegistryLogin(ctx, client.RegistryLoginOptions{
		Username: auth.Username, Password: auth.Password, ServerAddress: auth.ServerAddress,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	})
	if err != nil {
		return err
	}
	if got.Auth.IdentityToken != "" {
		auth.Password, auth.IdentityToken = "", got.Auth.IdentityToken
	}
	if err := cfg.Store(auth); err != nil {
		return err
	}
	if cfg.Helper(auth.ServerAddress) == "" {
		fmt.Fprintf(a.err, "WARNING! Your credentials are stored unencrypted in '%s'.\nConfigure a credential helper to remove this warning: credsStore in that file\n", cfg.Path())
	}
	fmt.Fprintln(a.out, got.Auth.Status)
	return nil
}

// askFor fills in what the flags did not give, from stdin or the terminal.
func (a *app) askFor(c *cli.Context, auth *registry.AuthConfig) error {
	if c.Bool("password-stdin") {
		text, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		if err != nil {
			return fmt.Errorf("cannot read the password: %w", err)
		}
		auth.Password = strings.TrimRight(string(text), "\r\n")
	}
	if auth.Username != "" && auth.Password != "" {
		return nil
	}
	if c.Bool("password-stdin") {
		return &status{1, "password is empty"}
	}
	if !term.IsTerminal(int(a.in.Fd())) {
		return &status{1, "cannot ask for a login: stdin is no terminal: give --username and --password-stdin"}
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt)
	defer stop()
	if auth.Username == "" {
		name, err := a.ask(ctx, "Username: ", false)
		if err != nil {
			return err
		}
		if auth.Username = strings.TrimSpace(name); auth.Username == "" {
			return &status{1, "username is empty"}
		}
	}
	if auth.Password == "" {
		password, err := a.ask(ctx, "Password: ", true)
		if err != nil {
			return err
		}
		if auth.Password = password; password == "" {
			return &status{1, "password is empty"}
		}
	}
	return nil
}

// ask asks for a line. What is typed to answer for a secret is not shown, not
// even before the reading begins, and the terminal shows typing again even
// after an interrupt.
func (a *app) ask(ctx context.Context, question string, secret bool) (string, error) {
	fd := int(a.in.Fd())
	if secret {
		before, err := term.GetState(fd)
		if err != nil {
			return "", fmt.Errorf("cannot ask for a secret: %w", err)
		}
		defer func() { _ = term.Restore(fd, before) }()
		if err := hideTyping(fd); err != nil {
			return "", fmt.Errorf("cannot ask for a secret: %w", err)
		}
		defer fmt.Fprintln(a.out) // the one that was typed is not shown either
	}
	fmt.Fprint(a.out, question)
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := oneLine(a.in)
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		return l.text, l.err
	case <-ctx.Done():
		return "", context.Canceled
	}
}

func hideTyping(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	t.Lflag |= unix.ICANON | unix.ISIG
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// oneLine reads no further than the line's end: the next question's answer
// comes from the same place.
func oneLine(r io.Reader) (string, error) {
	b := bufio.NewReaderSize(oneAtATime{r}, 16)
	text, err := b.ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(text, "\r\n"), err
}

type oneAtATime struct{ io.Reader }

func (o oneAtATime) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(1, len(p))]) }

func (a *app) logout(c *cli.Context) error {
	cfg, err := dockerconfig.Load(a.getenv)
	if err != nil {
		return err
	}
	server := serverKey(c.Args().First())
	keys := []string{server}
	if server != dockerconfig.IndexServer {
		// Logins of long ago have a URL as their key.
		keys = append(keys, "https://"+server, "http://"+server)
		if given := c.Args().First(); given != server {
			keys = append(keys, given)
		}
	}
	found, err := cfg.Erase(keys...)
	if err != nil {
		return err
	}
	if !found {
		fmt.Fprintln(a.out, "Not logged in to "+server)
		return nil
	}
	fmt.Fprintln(a.out, "Removing login credentials for "+server)
	return nil
}
