package api

import (
	"encoding/json"
	"runtime"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// ociPlatform reads a platform as clients have sent it since 1.46: an object of
// the OCI in JSON. The answer is os/arch[/variant]; "" where it is missing.
func ociPlatform(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return "", invalid("failed to parse platform: %w", err)
	}
	switch {
	case p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0):
		return "", invalid("optional platform fields provided, but OS and Architecture are missing")
	case p.OS == "" || p.Architecture == "":
		return "", invalid("both OS and Architecture must be provided")
	case p.OSVersion != "" || len(p.OSFeatures) > 0:
		return "", notYet("choosing an image by os.version or os.features", "name os, architecture and variant alone")
	}
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return parsePlatform(name)
}

// onePlatform is for parameters that may be repeated where moss takes one: each
// image that it keeps has one platform.
func onePlatform(values []string) (string, error) {
	if len(values) > 1 {
		return "", notYet("several platforms at once", "name one of them a request")
	}
	if len(values) == 0 {
		return "", nil
	}
	return ociPlatform(values[0])
}

// splitPlatform is the parts of os/arch[/variant].
func splitPlatform(p string) ocispec.Platform {
	parts := append(strings.SplitN(p, "/", 3), "", "")
	return ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// hasPlatform refuses an image that is not of the platform asked for, "" being
// any. An image that does not tell its variant may have any, as docker has it.
func hasPlatform(img *moss.Image, ref, platform string) error {
	if platform == "" {
		return nil
	}
	want := splitPlatform(platform)
	osName := img.OS
	if osName == "" {
		osName = runtime.GOOS
	}
	if osName == want.OS && img.Architecture == want.Architecture && (want.Variant == "" || variantFits(img, want)) {
		return nil
	}
	is := osName + "/" + img.Architecture
	if img.Variant != "" {
		is += "/" + img.Variant
	}
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		ref = reference.FamiliarString(named)
	}
	return moss.Errorf(moss.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, is, platform)
}

func variantFits(img *moss.Image, want ocispec.Platform) bool {
	if img.Variant == "" || img.Variant == want.Variant {
		return true
	}
	// An older variant of ARM runs on a newer one.
	return want.Architecture == "arm" && strings.HasPrefix(img.Variant, "v") && img.Variant < want.Variant
}
