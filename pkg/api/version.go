package api

import (
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// version is an API version, "1.56".
type version struct{ major, minor int }

func (v version) String() string { return strconv.Itoa(v.major) + "." + strconv.Itoa(v.minor) }

func (v version) before(o version) bool {
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}

// v1 is version 1.minor.
func v1(minor int) version { return version{1, minor} }

func parseVersion(s string) (version, bool) {
	major, minor, _ := strings.Cut(s, ".")
	a, err := strconv.Atoi(major)
	if err != nil || a < 0 {
		return version{}, false
	}
	if minor == "" && !strings.Contains(s, ".") {
		return version{a, 0}, true
	}
	b, err := strconv.Atoi(minor)
	if err != nil || b < 0 {
		return version{}, false
	}
	return version{a, b}, true
}

// splitVersion takes the version prefix, if there is one, from a path.
func splitVersion(path string) (rest, asked string) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return path, ""
	}
	asked, rest, ok = strings.Cut(after, "/")
	if !ok || asked == "" || strings.Trim(asked, "0123456789.") != "" {
		return path, ""
	}
	return "/" + rest, asked
}

var (
	newest = mustVersion(MaxVersion)
	oldest = mustVersion(MinVersion)
)

func mustVersion(s string) version {
	v, ok := parseVersion(s)
	if !ok {
		panic("no API version: " + s)
	}
	return v
}

// checkVersion turns the version a path asks for into one that is spoken; none
// asked for means the newest. The texts are docker's.
func checkVersion(asked string) (version, error) {
	if asked == "" {
		return newest, nil
	}
	v, ok := parseVersion(asked)
	switch {
	case !ok:
		return newest, moss.Errorf(moss.Invalid, "invalid API version %q in the path", asked)
	case v.before(oldest):
		return v, moss.Errorf(moss.Invalid, "client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", asked, MinVersion)
	case newest.before(v):
		return v, moss.Errorf(moss.Invalid, "client version %s is too new. Maximum supported API version is %s", asked, MaxVersion)
	}
	return v, nil
}
