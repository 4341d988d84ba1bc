package registry

import (
	"context"
	"strings"

	"github.com/containers/image/v5/docker"

	"github.com/moss-containers/moss/pkg/moss"
)

// Search looks for images at docker.io, or at the registry that the term
// begins with: one that cannot search is asked for its list of repositories.
func (c *Client) Search(ctx context.Context, q moss.SearchQuery) ([]moss.SearchResult, error) {
	if strings.Contains(q.Term, "://") {
		return nil, moss.Errorf(moss.Invalid, "invalid repository name: repository name (%s) should not have a scheme", q.Term)
	}
	limit := q.Limit
	if limit == 0 {
		limit = 25
	}
	if limit < 1 || limit > 100 {
		return nil, moss.Errorf(moss.Invalid, "limit %d is outside the range of [1, 100]", q.Limit)
	}
	if q.Automated != nil && *q.Automated {
		return nil, nil // as docker: there are none any more
	}
	host, term := splitTerm(q.Term)
	sys, err := c.system(ctx, host, q.Credentials, true)
	if err != nil {
		return nil, err
	}
	found, err := docker.SearchRegistry(ctx, sys, host, term, limit)
	if err != nil {
		return nil, broken(ctx, err, host)
	}
	var list []moss.SearchResult
	for _, r := range found {
		if r.StarCount < q.Stars || (q.Official != nil && *q.Official != r.IsOfficial) {
			continue
		}
		name := r.Name
		if host != dockerHub && !strings.HasPrefix(name, host+"/") {
			name = host + "/" + name // so that it can be pulled
		}
		list = append(list, moss.SearchResult{Name: name, Description: r.Description, Stars: r.StarCount, Official: r.IsOfficial})
		if len(list) == limit {
			break // not every registry keeps to it
		}
	}
	return list, nil
}

// splitTerm finds the registry that a term begins with, as docker does.
func splitTerm(term string) (host, rest string) {
	first, rest, more := strings.Cut(term, "/")
	if !more || (!strings.ContainsAny(first, ".:") && first != "localhost") {
		return dockerHub, strings.TrimPrefix(term, "library/")
	}
	if first == "index.docker.io" || first == dockerHub {
		return dockerHub, strings.TrimPrefix(rest, "library/")
	}
	return first, rest
}
