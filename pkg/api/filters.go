package api

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// filters are the filters of a list: the values of each key, sorted.
type filters map[string][]string

// parseFilters reads docker's JSON: a set (an object of true) or, from old
// clients, a list of values for each key. Keys not allowed are refused.
func parseFilters(s string, allowed ...string) (filters, error) {
	out := filters{}
	if s == "" {
		return out, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(s), &sets); err == nil {
		for k, set := range sets {
			out[k] = slices.Sorted(maps.Keys(set))
		}
	} else {
		var lists map[string][]string
		if err := json.Unmarshal([]byte(s), &lists); err != nil {
			return nil, moss.Errorf(moss.Invalid, "invalid filter")
		}
		for k, list := range lists {
			out[k] = slices.Compact(slices.Sorted(slices.Values(list)))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(out)) {
		if !slices.Contains(allowed, k) {
			return nil, moss.Errorf(moss.Invalid, "invalid filter '%s'", k)
		}
	}
	return out, nil
}

func badFilter(key string, values ...string) error {
	return moss.Errorf(moss.Invalid, "invalid filter '%s=%s'", key, strings.Join(values, " "))
}

func (f filters) has(key string) bool { return len(f[key]) > 0 }

// boolean reads a filter that is true or false; set says whether it is there.
func (f filters) boolean(key string) (value, set bool, err error) {
	vs, ok := f[key]
	if !ok {
		return false, false, nil
	}
	yes := slices.Contains(vs, "1") || slices.Contains(vs, "true")
	no := slices.Contains(vs, "0") || slices.Contains(vs, "false")
	if yes == no {
		return false, false, badFilter(key, vs...)
	}
	return yes, true, nil
}

// one reads a filter that takes a single value.
func (f filters) one(key string) (string, error) {
	if len(f[key]) > 1 {
		return "", badFilter(key, f[key]...)
	}
	if len(f[key]) == 0 {
		return "", nil
	}
	return f[key][0], nil
}

// exact says whether a value is among the key's, or the key is not there.
func (f filters) exact(key string, values ...string) bool {
	return !f.has(key) || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(f[key], v) })
}

// prefix says whether one of the key's values begins a value, or the key is not there.
func (f filters) prefix(key string, values ...string) bool {
	return !f.has(key) || slices.ContainsFunc(values, func(v string) bool {
		return slices.ContainsFunc(f[key], func(p string) bool { return p != "" && strings.HasPrefix(v, p) })
	})
}

// matches says whether one of the key's values is v or a regular expression that
// finds something in it, as docker has it, or the key is not there.
func (f filters) matches(key, v string) bool {
	return !f.has(key) || slices.ContainsFunc(f[key], func(want string) bool {
		re, err := regexp.Compile(want)
		return want == v || err == nil && re.MatchString(v)
	})
}

// pairs says whether all of the key's values (key or key=value) are in m.
func (f filters) pairs(key string, m map[string]string) bool {
	for _, kv := range f[key] {
		k, want, valued := strings.Cut(kv, "=")
		if got, ok := m[k]; !ok || valued && got != want {
			return false
		}
	}
	return true
}
