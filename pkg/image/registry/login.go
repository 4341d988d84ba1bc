package registry

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"github.com/docker/distribution/registry/client/auth/challenge"

	"github.com/moss-containers/moss/pkg/moss"
)

// Login tries credentials, and returns the identity token that the registry
// gives in the place of the password, if it does. Mirrors are not asked.
// Errors: Unauthorized when they are refused.
func (c *Client) Login(ctx context.Context, cred moss.Credentials) (moss.Login, error) {
	host, err := loginHost(cred.ServerAddress)
	if err != nil {
		return moss.Login{}, err
	}
	ways, err := c.endpoints(ctx, host)
	if err != nil {
		return moss.Login{}, err
	}
	for _, e := range ways {
		var token string
		if token, err = e.login(ctx, cred); err == nil {
			return moss.Login{Status: "Login Succeeded", IdentityToken: token}, nil
		}
		if ctx.Err() != nil {
			return moss.Login{}, ctx.Err()
		}
		if e, said := errorOf(err); said && e.Code == errcode.ErrorCodeUnauthorized {
			return moss.Login{}, moss.Errorf(moss.Unauthorized, "%w", err)
		}
		if statusOf(err) == http.StatusUnauthorized {
			return moss.Login{}, moss.Errorf(moss.Unauthorized, "%w", err)
		}
	}
	return moss.Login{}, unreachable(err, host)
}

// login asks the registry how it wants to be shown credentials, and shows them so.
func (e endpoint) login(ctx context.Context, cred moss.Credentials) (identity string, err error) {
	at := e.url.String() + "/v2/"
	resp, err := e.ask(ctx, http.MethodGet, at, "")
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	authorization, identity := "", ""
	if resp.StatusCode == http.StatusUnauthorized {
		if authorization, identity, err = e.authorize(ctx, challenge.ResponseChallenges(resp), cred); err != nil {
			return "", err
		}
		if resp, err = e.ask(ctx, http.MethodGet, at, authorization); err != nil {
			return "", err
		}
		resp.Body.Close()
	}
	if resp.StatusCode != http.StatusOK {
		return "", &StatusError{Status: resp.StatusCode, After: retryAfter(resp), Text: "login attempt to " + at + " failed with status: " + resp.Status}
	}
	return identity, nil
}

// loginHost reads a server's address as docker's clients write it.
func loginHost(address string) (string, error) {
	if address == "" {
		return dockerHub, nil
	}
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", moss.Errorf(moss.Invalid, "unable to parse server address %q", address)
	}
	switch u.Host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub, nil
	}
	return u.Host, nil
}

// retryAfter reads how long a registry wants us to wait; 0 when it does not say.
func retryAfter(resp *http.Response) time.Duration {
	after := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(after); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(after); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}
