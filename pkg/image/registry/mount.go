package registry

import (
	"context"
	"net/http"
	"net/url"

	"github.com/distribution/reference"
	"github.com/docker/distribution/registry/client/auth/challenge"
	"github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// way is an endpoint that answered, and how it wants to be shown credentials.
type way struct {
	endpoint
	asked []challenge.Challenge
}

// Mount takes a blob over from another repository of the same registry, if
// that has it and the registry lets us. The library does so only for blobs in a cache of its own.
func (t *Target) Mount(ctx context.Context, d digest.Digest, repo string) (size int64, ok bool, err error) {
	host := reference.Domain(t.ref)
	from, err := reference.ParseNormalizedNamed(repo)
	if err != nil || reference.Domain(from) != host {
		return 0, false, moss.Errorf(moss.Invalid, "cannot mount a blob of %q in %s", repo, host)
	}
	w, err := t.reach(ctx)
	if err != nil {
		return 0, false, broken(ctx, err, host)
	}
	authorization, _, err := w.authorize(ctx, w.asked, t.cred,
		"repository:"+reference.Path(t.ref)+":pull,push", "repository:"+reference.Path(from)+":pull")
	if err != nil {
		return 0, false, broken(ctx, err, host)
	}
	// A mount that fails leaves an upload open, so it is only asked for where it should work.
	resp, err := w.ask(ctx, http.MethodHead, w.url.String()+"/v2/"+reference.Path(from)+"/blobs/"+d.String(), authorization)
	if err != nil {
		return 0, false, broken(ctx, err, host)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return 0, false, nil
	}
	ok, err = w.mount(ctx, authorization, d, reference.Path(t.ref), reference.Path(from))
	return resp.ContentLength, ok, broken(ctx, err, host)
}

func (w *way) mount(ctx context.Context, authorization string, d digest.Digest, to, from string) (bool, error) {
	q := url.Values{"mount": {d.String()}, "from": {from}}
	resp, err := w.ask(ctx, http.MethodPost, w.url.String()+"/v2/"+to+"/blobs/uploads/?"+q.Encode(), authorization)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted {
		// The registry began an upload instead; where it cannot be called off, the registry collects it.
		if at, err := resp.Location(); err == nil && at.Host == w.url.Host {
			if gone, err := w.ask(ctx, http.MethodDelete, at.String(), authorization); err == nil {
				gone.Body.Close()
			}
		}
	}
	return resp.StatusCode == http.StatusCreated, nil
}

// reach finds a way to the registry that answers, once.
func (t *Target) reach(ctx context.Context) (*way, error) {
	t.mu.Lock()
	found := t.way
	t.mu.Unlock()
	if found != nil {
		return found, nil
	}
	ways, err := t.c.endpoints(ctx, reference.Domain(t.ref))
	if err != nil {
		return nil, err
	}
	for _, e := range ways {
		var resp *http.Response
		if resp, err = e.ask(ctx, http.MethodGet, e.url.String()+"/v2/", ""); err == nil {
			resp.Body.Close()
			found = &way{endpoint: e, asked: challenge.ResponseChallenges(resp)}
			t.mu.Lock()
			t.way = found
			t.mu.Unlock()
			return found, nil
		}
	}
	return nil, err
}
