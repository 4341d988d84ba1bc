package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// indexServer is where docker login goes without a server's name.
const indexServer = "https://index.docker.io/v1/"

// maxSearch is docker's limit to the results of a search.
const maxSearch = 100

func (s *Server) login(w *response, r *request) error {
	var body *authBody
	if err := decodeStrict(w, r.Request, &body); err != nil {
		return err
	}
	if body == nil {
		return invalid("no credentials are given to try")
	}
	c, err := body.credentials()
	if err != nil {
		return err
	}
	done, err := s.o.Registries.Login(r.Context(), c)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: done.Status, IdentityToken: done.IdentityToken})
}

func (s *Server) searchImages(w *response, r *request) error {
	q, err := searchQuery(r)
	if err != nil {
		return err
	}
	found, err := s.o.Registries.Search(r.Context(), q)
	if err != nil {
		return err
	}
	out := []registry.SearchResult{}
	for _, f := range found {
		// Since 1.44 no result is said to be automated: registries do not know any more.
		out = append(out, registry.SearchResult{Name: f.Name, Description: f.Description, StarCount: f.Stars, IsOfficial: f.Official})
	}
	return writeJSON(w, http.StatusOK, out)
}

func searchQuery(r *request) (moss.SearchQuery, error) {
	q := moss.SearchQuery{Term: r.str("term")}
	if strings.TrimSpace(q.Term) == "" {
		return q, invalid("no term is given to search for")
	}
	if strings.Contains(q.Term, "://") {
		return q, invalid("invalid repository name: repository name (%s) should not have a scheme", q.Term)
	}
	f, err := parseFilters(r.str("filters"), "is-automated", "is-official", "stars")
	if err != nil {
		return q, err
	}
	if q.Limit, err = r.integer("limit", 0); err != nil {
		return q, err
	}
	if q.Limit < 0 || q.Limit > maxSearch {
		return q, invalid("invalid limit %d: limit is outside the range of [1, %d]", q.Limit, maxSearch)
	}
	for _, v := range f["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return q, badFilter("stars", v)
		}
		q.Stars = max(q.Stars, n)
	}
	for key, to := range map[string]**bool{"is-official": &q.Official, "is-automated": &q.Automated} {
		yes, set, err := f.boolean(key)
		if err != nil {
			return q, err
		}
		if set {
			*to = &yes
		}
	}
	q.Credentials, err = r.credentials()
	return q, err
}

func (s *Server) distribution(w *response, r *request) error {
	ref, err := reference.ParseAnyReference(r.name)
	if err != nil {
		return invalid("%w", err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return invalid("no manifest found for full image ID")
	}
	c, err := r.credentials()
	if err != nil {
		return err
	}
	d, err := s.o.Registries.Distribution(r.Context(), reference.TagNameOnly(named).String(), c)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeDistribution(d))
}

func encodeDistribution(d moss.Distribution) registry.DistributionInspect {
	out := registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size, Annotations: d.Annotations},
		Platforms:  []ocispec.Platform{},
	}
	for _, p := range d.Platforms {
		out.Platforms = append(out.Platforms, splitPlatform(p))
	}
	return out
}

// encodeRegistries is the configuration for registries as docker info shows it.
// Loopback is insecure by default, as with docker.
func encodeRegistries(in moss.RegistryInfo) *registry.ServiceConfig {
	out := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: nonNilList(in.Mirrors), Secure: true, Official: true},
		},
		Mirrors: nonNilList(in.Mirrors),
	}
	for _, host := range append(slices.Clone(in.Insecure), "::1/128", "127.0.0.0/8") {
		p, err := netip.ParsePrefix(host)
		if err != nil {
			out.IndexConfigs[host] = &registry.IndexInfo{Name: host, Mirrors: []string{}}
			continue
		}
		if !slices.Contains(out.InsecureRegistryCIDRs, p.Masked()) {
			out.InsecureRegistryCIDRs = append(out.InsecureRegistryCIDRs, p.Masked())
		}
	}
	return out
}
