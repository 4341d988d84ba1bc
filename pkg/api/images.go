package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) listImages(w *response, r *request) error {
	f, err := parseFilters(r.str("filters"), "before", "dangling", "label", "reference", "since", "until")
	if err != nil {
		return err
	}
	if old := r.str("filter"); old != "" && r.version.before(v1(41)) {
		f["reference"] = append(f["reference"], old)
	}
	if r.flag("shared-size") {
		return notYet("shared sizes of images (shared-size=1)", "leave it out")
	}
	keep, err := s.imageFilter(r, f)
	if err != nil {
		return err
	}
	list, err := s.o.Images.List(r.Context())
	if err != nil {
		return err
	}
	used := map[moss.ImageID]int64{}
	if !r.version.before(v1(51)) {
		all, err := s.o.Views.List(moss.ContainerFilter{All: true})
		if err != nil {
			return err
		}
		for i := range all {
			used[all[i].Image]++
		}
	}
	out := []map[string]any{}
	list = slices.Clone(list) // it is the service's
	slices.SortStableFunc(list, func(a, b moss.Image) int { return b.Created.Compare(a.Created) })
	for i := range list {
		if !keep(&list[i]) {
			continue
		}
		sum := encodeImageSummary(&list[i], used[list[i].ID], r.version)
		out = append(out, imageMembers(sum, &list[i], r.version))
	}
	return writeJSON(w, http.StatusOK, out)
}

// imageMembers adds the members that only old versions have.
func imageMembers(v any, img *moss.Image, ver version) map[string]any {
	m := members(v)
	if ver.before(v1(44)) {
		m["VirtualSize"] = img.Size
	}
	return m
}

// members is a JSON object's members, for adding to them.
func members(v any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types are ours to choose and can all be written
	}
	raw := map[string]json.RawMessage{}
	_ = json.Unmarshal(b, &raw) // was written just now
	out := make(map[string]any, len(raw))
	for k, v := range raw {
		out[k] = v
	}
	return out
}

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

func (s *Server) inspectImage(w *response, r *request) error {
	if r.str("platform") != "" {
		return notYet("images of several platforms (platform)", "leave it out; each image has one platform")
	}
	img, err := s.o.Images.Get(r.Context(), r.name)
	if err != nil {
		return err
	}
	driver, err := s.storageDriver(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeImage(&img, driver, r.version))
}

func (s *Server) imageHistory(w *response, r *request) error {
	if r.str("platform") != "" {
		return notYet("images of several platforms (platform)", "leave it out; each image has one platform")
	}
	img, err := s.o.Images.Get(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeHistory(&img))
}

func (s *Server) tagImage(w *response, r *request) error {
	name, err := tagName(r.str("repo"), r.str("tag"))
	if err != nil {
		return err
	}
	if name == "" {
		return moss.Errorf(moss.Invalid, "invalid reference format: no repo given")
	}
	if err := s.o.Images.Tag(r.Context(), r.name, name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// tagName makes a normalised name:tag of the two parameters; latest where the
// tag is missing, "" where the name is.
func tagName(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", moss.Errorf(moss.Invalid, "%w", err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", moss.Errorf(moss.Invalid, "refusing to create a tag with a digest reference")
	}
	if tag != "" {
		if ref, err = reference.WithTag(reference.TrimNamed(ref), tag); err != nil {
			return "", moss.Errorf(moss.Invalid, "%w", err)
		}
	}
	return reference.TagNameOnly(ref).String(), nil
}

func (s *Server) removeImage(w *response, r *request) error {
	if len(r.strs("platforms")) > 0 {
		return notYet("images of several platforms (platforms)", "leave it out; each image has one platform")
	}
	done, err := s.o.Images.Remove(r.Context(), r.name, r.flag("force"), !r.flag("noprune"))
	if err != nil {
		return err
	}
	out := []image.DeleteResponse{}
	for _, d := range done {
		if d.Untagged != "" {
			out = append(out, image.DeleteResponse{Untagged: familiar(d.Untagged)})
		}
		if d.Deleted != "" {
			out = append(out, image.DeleteResponse{Deleted: string(d.Deleted)})
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// familiar is a reference as users write it: busybox:latest.
func familiar(name string) string {
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(reference.TagNameOnly(ref))
	}
	return name
}
