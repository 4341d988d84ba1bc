package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"

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
	keep, err := s.imageFilter(r, f)
	if err != nil {
		return err
	}
	list, err := s.o.Images.List(r.Context())
	if err != nil {
		return err
	}
	users, err := s.imageUsers(r)
	if err != nil {
		return err
	}
	shared, err := s.sharedSizes(r)
	if err != nil {
		return err
	}
	out := []any{}
	list = slices.Clone(list) // it is the service's
	slices.SortStableFunc(list, func(a, b moss.Image) int { return b.Created.Compare(a.Created) })
	for i := range list {
		img := &list[i]
		if !keep(img) {
			continue
		}
		sum := encodeImageSummary(img, int64(len(users[img.ID])), r.version)
		if size, ok := shared[img.ID]; ok {
			sum.SharedSize = size
		}
		if r.flag("manifests") || r.flag("identity") {
			sum.Manifests = encodeManifests(img, users[img.ID], r.flag("identity"))
		}
		out = append(out, oldSummary(sum, r.version))
	}
	return writeJSON(w, http.StatusOK, out)
}

// imageUsers are the containers of each image, where the answer tells of them.
func (s *Server) imageUsers(r *request) (map[moss.ImageID][]string, error) {
	if r.version.before(v1(51)) && !r.flag("manifests") {
		return nil, nil //nolint:nilnil // nobody asks
	}
	all, err := s.o.Views.List(moss.ContainerFilter{All: true})
	if err != nil {
		return nil, err
	}
	out := map[moss.ImageID][]string{}
	for i := range all {
		out[all[i].Image] = append(out[all[i].Image], string(all[i].ID))
	}
	return out, nil
}

// sharedSizes is how much of each image others have too, where that is asked for.
func (s *Server) sharedSizes(r *request) (map[moss.ImageID]int64, error) {
	if !r.flag("shared-size") {
		return nil, nil //nolint:nilnil // nobody asks
	}
	u, err := s.o.Usage.Usage(r.Context())
	if err != nil {
		return nil, err
	}
	out := map[moss.ImageID]int64{}
	for i := range u.Images {
		out[u.Images[i].Image.ID] = u.Images[i].SharedSize
	}
	return out, nil
}

// oldSummary adds the member that only old versions have.
func oldSummary(sum image.Summary, v version) any {
	if !v.before(v1(44)) {
		return sum
	}
	m := members(sum)
	m["VirtualSize"] = sum.Size
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

// imageOf finds the image of a request and sees to its platform.
func (s *Server) imageOf(ctx context.Context, ref, platform string) (moss.Image, error) {
	img, err := s.o.Images.Get(ctx, ref)
	if err != nil {
		return img, err
	}
	return img, hasPlatform(&img, ref, platform)
}

func (s *Server) inspectImage(w *response, r *request) error {
	platform, err := ociPlatform(r.str("platform"))
	if err != nil {
		return err
	}
	if r.flag("manifests") && platform != "" {
		return invalid("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := s.imageOf(r.Context(), r.name, platform)
	if err != nil {
		return err
	}
	driver, err := s.storageDriver(r.Context())
	if err != nil {
		return err
	}
	m := encodeImage(&img, driver, r.version)
	if r.flag("manifests") {
		users, err := s.imageUsers(r)
		if err != nil {
			return err
		}
		m["Manifests"] = encodeManifests(&img, users[img.ID], !r.version.before(v1(53)))
	}
	return writeJSON(w, http.StatusOK, m)
}

func (s *Server) imageHistory(w *response, r *request) error {
	platform, err := ociPlatform(r.str("platform"))
	if err != nil {
		return err
	}
	img, err := s.imageOf(r.Context(), r.name, platform)
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
	if reference.FamiliarName(ref) == string(digest.Canonical) {
		return "", moss.Errorf(moss.Invalid, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	if tag != "" {
		if ref, err = reference.WithTag(reference.TrimNamed(ref), tag); err != nil {
			return "", moss.Errorf(moss.Invalid, "%w", err)
		}
	}
	return reference.TagNameOnly(ref).String(), nil
}

func (s *Server) removeImage(w *response, r *request) error {
	if strings.TrimSpace(r.name) == "" {
		return invalid("image name cannot be blank")
	}
	platform, err := onePlatform(r.strs("platforms"))
	if err != nil {
		return err
	}
	if platform != "" {
		if _, err := s.imageOf(r.Context(), r.name, platform); err != nil {
			return err
		}
	}
	done, err := s.o.Images.Remove(r.Context(), r.name, r.flag("force"), !r.flag("noprune"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, append([]image.DeleteResponse{}, encodeRemovals(done)...))
}

func (s *Server) pruneImages(w *response, r *request) error {
	f, err := pruneFilter(r, s.now())
	if err != nil {
		return err
	}
	done, err := s.o.Images.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, image.PruneReport{ImagesDeleted: encodeRemovals(done.Removed), SpaceReclaimed: uint64(max(done.Reclaimed, 0))})
}

// encodeRemovals is nil for none, as docker's prune has it.
func encodeRemovals(done []moss.ImageRemoval) []image.DeleteResponse {
	var out []image.DeleteResponse
	for _, d := range done {
		if d.Untagged != "" {
			out = append(out, image.DeleteResponse{Untagged: familiar(d.Untagged)})
		}
		if d.Deleted != "" {
			out = append(out, image.DeleteResponse{Deleted: string(d.Deleted)})
		}
	}
	return out
}

// familiar is a reference as users write it: busybox:latest.
func familiar(name string) string {
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(reference.TagNameOnly(ref))
	}
	return name
}
