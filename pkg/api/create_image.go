package api

import (
	"context"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// createImage pulls an image or imports one.
func (s *Server) createImage(w *response, r *request) error {
	platform, err := parsePlatform(r.str("platform"))
	if err != nil {
		return err
	}
	if r.str("fromImage") == "" {
		return s.importImage(w, r, platform)
	}
	for _, key := range []string{"fromSrc", "repo", "message", "changes"} {
		if r.str(key) != "" {
			return invalid("conflicting options: %s is for an import, fromImage asks for a pull", key)
		}
	}
	return s.pullImage(w, r, platform)
}

func (s *Server) pullImage(w *response, r *request, platform string) error {
	ref, err := pullReference(r.str("fromImage"), r.str("tag"))
	if err != nil {
		return err
	}
	c, err := r.credentials()
	if err != nil {
		return err
	}
	// What docker's clients send here is empty; reading it makes net/http watch for the client's leaving.
	_, _ = smallBody(w.ResponseWriter, r.Request, bodyTimeout)
	return s.tell(w, r, func(ctx context.Context, p *progress) error {
		_, err := s.o.Transfers.Pull(ctx, moss.PullRequest{
			Ref: ref.String(), All: reference.IsNameOnly(ref), Platform: platform, Credentials: c,
		}, p.report)
		return err
	})
}

// pullReference is what a pull asks for: a name with a digest or a tag, or alone
// for all its tags.
func pullReference(name, tag string) (reference.Named, error) {
	ref, err := repository(trimColon(name))
	if err != nil {
		return nil, err
	}
	if d, ok := ref.(reference.Digested); ok {
		return withDigest(ref, d.Digest()) // whatever the tag
	}
	if tag == "" {
		return ref, nil
	}
	if d, err := digest.Parse(tag); err == nil {
		return withDigest(ref, d)
	}
	return withTag(ref, tag)
}

// pushReference is what a push asks for: a name with a tag, or alone for all its tags.
func pushReference(name, tag string) (reference.Named, error) {
	ref, err := repository(name)
	if err != nil {
		return nil, err
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, invalid("cannot push a digest reference")
	}
	if tag == "" {
		return ref, nil
	}
	return withTag(ref, tag)
}

// trimColon takes the colon away that old clients send for all tags.
func trimColon(name string) string {
	if n := len(name); n > 0 && name[n-1] == ':' {
		return name[:n-1]
	}
	return name
}

// repository reads a name that a registry can have.
func repository(name string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, invalid("%w", err)
	}
	if reference.FamiliarName(ref) == "scratch" {
		return nil, moss.Errorf(moss.Forbidden, "'scratch' is a reserved name")
	}
	return ref, nil
}

func withDigest(ref reference.Named, d digest.Digest) (reference.Named, error) {
	out, err := reference.WithDigest(reference.TrimNamed(ref), d)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return out, nil
}

func withTag(ref reference.Named, tag string) (reference.Named, error) {
	out, err := reference.WithTag(reference.TrimNamed(ref), tag)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return out, nil
}

// pushAux is docker's, for the client's program.
type pushAux struct {
	Tag    string
	Digest string
	Size   int64
}

func (s *Server) pushImage(w *response, r *request) error {
	ref, err := pushReference(r.name, r.str("tag"))
	if err != nil {
		return err
	}
	platform := ""
	if !r.version.before(v1(46)) { // older clients send it without meaning
		if platform, err = ociPlatform(r.str("platform")); err != nil {
			return err
		}
	}
	c, err := r.credentialsOrBody(w)
	if err != nil {
		return err
	}
	return s.tell(w, r, func(ctx context.Context, p *progress) error {
		sent, err := s.o.Transfers.Push(ctx, moss.PushRequest{
			Ref: ref.String(), All: reference.IsNameOnly(ref), Platform: platform, Credentials: c,
		}, p.report)
		for _, i := range sent {
			if e := p.aux(pushAux(i)); e != nil {
				return e
			}
		}
		return err
	})
}
