package api

import (
	"slices"
	"time"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// imageFilter makes one test of the filters. It takes the names away from an
// image that a reference filter does not fit.
func (s *Server) imageFilter(r *request, f filters) (func(*moss.Image) bool, error) {
	dangling, asked, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	var before, since time.Time
	for key, to := range map[string]*time.Time{"before": &before, "since": &since} {
		ref, err := f.one(key)
		if err != nil {
			return nil, err
		}
		if ref == "" {
			continue
		}
		img, err := s.o.Images.Get(r.Context(), ref)
		if err != nil {
			return nil, err
		}
		*to = img.Created
	}
	until, err := f.one("until")
	if err != nil {
		return nil, err
	}
	end, err := untilTime(until, s.now())
	if err != nil {
		return nil, err
	}
	for _, pattern := range f["reference"] {
		if _, err := reference.FamiliarMatch(pattern, reference.TrimNamed(anyName)); err != nil {
			return nil, badFilter("reference", pattern)
		}
	}
	return func(img *moss.Image) bool {
		switch {
		case asked && dangling != (len(img.Names) == 0),
			!before.IsZero() && !img.Created.Before(before),
			!since.IsZero() && !img.Created.After(since),
			!end.IsZero() && img.Created.After(end),
			!f.pairs("label", img.Config.Labels):
			return false
		}
		if !f.has("reference") {
			return true
		}
		// As docker has it, only the names that fit are shown.
		img.Names, img.Digests = f.matching(img.Names), f.matching(img.Digests)
		return len(img.Names)+len(img.Digests) > 0
	}, nil
}

// anyName is for trying a pattern out.
var anyName = func() reference.Named {
	n, err := reference.WithName("a")
	if err != nil {
		panic(err)
	}
	return n
}()

// untilTime reads a time in seconds since 1970, RFC 3339, or a duration back from now.
func untilTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	t, err := parseMoment("until", s)
	if err != nil {
		return t, badFilter("until", s)
	}
	return t, nil
}

// matching are the names that fit the reference filter; all without one.
func (f filters) matching(names []string) []string {
	if !f.has("reference") {
		return names
	}
	var out []string
	for _, name := range names {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(f["reference"], func(pattern string) bool {
			whole, err1 := reference.FamiliarMatch(pattern, ref)
			bare, err2 := reference.FamiliarMatch(pattern, reference.TrimNamed(ref))
			return err1 == nil && whole || err2 == nil && bare
		}) {
			out = append(out, name)
		}
	}
	return out
}

// pruneFilter reads which images a prune is for. Without a wish those alone that
// have no name; dangling=false means every one that no container uses.
func pruneFilter(r *request, now time.Time) (moss.ImageFilter, error) {
	f, err := parseFilters(r.str("filters"), "dangling", "label", "label!", "until")
	if err != nil {
		return moss.ImageFilter{}, err
	}
	out := moss.ImageFilter{Labels: f["label"], NotLabel: f["label!"]}
	dangling, asked, err := f.boolean("dangling")
	if err != nil {
		return out, err
	}
	dangling = dangling || !asked
	out.Dangling = &dangling
	until, err := f.one("until")
	if err != nil {
		return out, err
	}
	out.Until, err = untilTime(until, now)
	return out, err
}
