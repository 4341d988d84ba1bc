package image

import (
	"slices"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// parsePlatform reads os/arch[/variant]; "" is the zero Platform.
func parsePlatform(s string) (imgspec.Platform, error) {
	if s == "" {
		return imgspec.Platform{}, nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return imgspec.Platform{}, moss.Errorf(moss.Invalid, "platform %q: it must be os/arch or os/arch/variant", s)
	}
	return normalPlatform(imgspec.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}), nil
}

func platformText(p imgspec.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

func isZero(p imgspec.Platform) bool { return p.OS == "" && p.Architecture == "" }

// suits tells whether an image of platform has will do where want is asked for.
func suits(want, has imgspec.Platform) bool {
	return isZero(want) || slices.ContainsFunc(runnable(want), func(p imgspec.Platform) bool { return platformText(p) == platformText(normalPlatform(has)) })
}

func platformOf(im moss.Image) imgspec.Platform {
	return imgspec.Platform{OS: im.OS, Architecture: im.Architecture, Variant: im.Variant}
}

// pick takes the best of an index's images for a platform, the zero one being
// this machine's. Where nothing is asked for, the only one there is will do.
func pick(list []imgspec.Descriptor, want imgspec.Platform) (imgspec.Descriptor, error) {
	asked := !isZero(want)
	if !asked && len(list) == 1 {
		return list[0], nil
	}
	if !asked {
		want = thisMachine()
	}
	if good := matching(list, want); len(good) > 0 {
		return good[0], nil
	}
	var there []string
	for _, d := range list {
		if d.Platform != nil {
			there = append(there, platformText(*d.Platform))
		}
	}
	return imgspec.Descriptor{}, noPlatform(want, there)
}

func noPlatform(want imgspec.Platform, there []string) error {
	slices.Sort(there)
	return moss.Errorf(moss.Invalid, "the archive has no image for platform %s; it has %s", platformText(want), strings.Join(slices.Compact(there), ", "))
}
