package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/docker/distribution/registry/api/errcode"
	"github.com/docker/distribution/registry/client/auth/challenge"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxToken is how large the answer of a token server may be.
const maxToken = 1 << 20

// authorize makes the header that answers one of the challenges. With it comes
// the identity token, if a token server gave one.
func (e endpoint) authorize(ctx context.Context, asked []challenge.Challenge, cred moss.Credentials, scopes ...string) (header, identity string, err error) {
	for _, c := range asked {
		switch strings.ToLower(c.Scheme) {
		case "basic":
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+cred.Password)), "", nil
		case "bearer":
			if cred.RegistryToken != "" {
				return "Bearer " + cred.RegistryToken, "", nil
			}
			token, identity, err := e.token(ctx, c.Parameters, cred, scopes)
			return "Bearer " + token, identity, err
		}
	}
	return "", "", nil // it may still let us in
}

// token asks a token server (docker's Token Authentication Specification and
// its OAuth2 variant). An identity token is asked for to be kept in the place of the password.
func (e endpoint) token(ctx context.Context, p map[string]string, cred moss.Credentials, scopes []string) (token, identity string, err error) {
	req, err := tokenRequest(ctx, p, cred, scopes)
	if err != nil {
		return "", "", err
	}
	resp, err := (&http.Client{Transport: e.tr, Timeout: patience}).Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", refusal(resp, body)
	}
	var got struct {
		Token   string `json:"token"`
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return "", "", moss.Errorf(moss.Unavailable, "cannot read the answer of the token server %s: %w", req.URL.Host, err)
	}
	if got.Token == "" {
		got.Token = got.Access
	}
	if got.Token == "" {
		return "", "", moss.Errorf(moss.Unavailable, "the token server %s gave no token", req.URL.Host)
	}
	if strings.ContainsFunc(got.Token, func(r rune) bool { return r <= ' ' || r > '~' }) { // RFC 6750, section 2.1
		return "", "", moss.Errorf(moss.Unavailable, "the token that the token server %s gave cannot stand in a header", req.URL.Host)
	}
	if got.Refresh == "" {
		got.Refresh = cred.IdentityToken
	}
	return got.Token, got.Refresh, nil
}

func tokenRequest(ctx context.Context, p map[string]string, cred moss.Credentials, scopes []string) (*http.Request, error) {
	realm, err := url.Parse(p["realm"])
	if err != nil || (realm.Scheme != "https" && realm.Scheme != "http") {
		return nil, moss.Errorf(moss.Unavailable, "the registry names no token server but %q", moss.Shown(p["realm"]))
	}
	q := realm.Query()
	q.Set("service", p["service"])
	q.Set("client_id", "docker")
	if cred.IdentityToken != "" {
		q.Set("scope", strings.Join(scopes, " "))
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", cred.IdentityToken)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	q["scope"] = scopes
	if len(scopes) == 0 { // to log in
		q.Set("offline_token", "true")
	}
	if cred.Username != "" {
		q.Set("account", cred.Username)
	}
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), http.NoBody)
	if err == nil && cred.Username != "" && cred.Password != "" {
		req.SetBasicAuth(cred.Username, cred.Password)
	}
	return req, err
}

// refusal is what a server said against it, in its own words where it has some.
func refusal(resp *http.Response, body []byte) error {
	var said errcode.Errors
	if err := json.Unmarshal(body, &said); err == nil && len(said) > 0 {
		if e, ok := errorOf(said[0]); ok {
			return e
		}
		return said[0]
	}
	var details struct {
		Details string `json:"details"`
	}
	if err := json.Unmarshal(body, &details); err == nil && details.Details != "" && resp.StatusCode == http.StatusUnauthorized {
		return errcode.ErrorCodeUnauthorized.WithMessage(moss.Shown(details.Details))
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return errcode.ErrorCodeUnauthorized.WithDetail(moss.Shown(string(body)))
	}
	return &StatusError{Status: resp.StatusCode, After: retryAfter(resp)}
}
