package image

import (
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// thisMachine is the platform that a pull takes when none is asked for.
func thisMachine() imgspec.Platform {
	p := imgspec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	switch p.Architecture {
	case "arm64":
		p.Variant = "v8"
	case "arm":
		p.Variant = "v7"
	}
	return p
}

// normalPlatform makes platforms that are the same equal.
func normalPlatform(p imgspec.Platform) imgspec.Platform {
	p = imgspec.Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "arm64" && p.Variant == "":
		p.Variant = "v8"
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	}
	return p
}

// runnable lists the platforms whose programs run on p, the best first: as
// docker has it, down the variants, then the older architecture of the same processor.
func runnable(p imgspec.Platform) []imgspec.Platform {
	p = normalPlatform(p)
	list := []imgspec.Platform{p}
	below := func(arch string, from, to int) {
		for n := from; n >= to; n-- {
			q := imgspec.Platform{OS: p.OS, Architecture: arch, Variant: "v" + strconv.Itoa(n)}
			list = append(list, normalPlatform(q))
		}
	}
	version, err := strconv.Atoi(strings.TrimPrefix(p.Variant, "v"))
	if err != nil || version > 99 {
		version = 0
	}
	switch p.Architecture {
	case "amd64":
		below("amd64", version-1, 1)
		list = append(list, imgspec.Platform{OS: p.OS, Architecture: "386"})
	case "arm64":
		below("arm64", version-1, 8)
		below("arm", 8, 5)
	case "arm":
		below("arm", version-1, 5)
	}
	return list
}

// matching picks the entries of an index that will do for p, the best first.
// One that does not say what it is for is the last resort.
func matching(list []imgspec.Descriptor, p imgspec.Platform) []imgspec.Descriptor {
	good := runnable(p)
	rank := func(d imgspec.Descriptor) int {
		if d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "" {
			return len(good)
		}
		has := platformText(normalPlatform(*d.Platform))
		return slices.IndexFunc(good, func(p imgspec.Platform) bool { return platformText(p) == has })
	}
	found := slices.DeleteFunc(slices.Clone(list), func(d imgspec.Descriptor) bool {
		_, attests := isAttestation(d)
		return attests || rank(d) < 0
	})
	slices.SortStableFunc(found, func(a, b imgspec.Descriptor) int { return rank(a) - rank(b) })
	return found
}

// errNoMatch is in the error for an index without an image for the platform.
var errNoMatch = errors.New("in the manifest list entries")

func noMatch(p imgspec.Platform) error {
	return moss.Errorf(moss.NotFound, "no matching manifest for %s %w", platformText(p), errNoMatch)
}
