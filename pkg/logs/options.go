package logs

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// The drivers there are.
const (
	driverJSON = "json-file"
	driverNone = "none"
)

// options are json-file's, parsed.
type options struct {
	maxSize  int64 // bytes; 0 means no limit
	maxFiles int   // the present one included; at least 1
}

// Check says whether the driver and its options can be had. Errors: Invalid,
// NotImplemented.
func (l *Logs) Check(c moss.LogConfig) error {
	switch c.Driver {
	case driverJSON, "":
		_, err := parseOptions(c.Options)
		return err
	case driverNone:
		for _, k := range slices.Sorted(maps.Keys(c.Options)) {
			return moss.Errorf(moss.Invalid, "unknown log opt '%s' for none log driver", k)
		}
		return nil
	default:
		return moss.Errorf(moss.Invalid, "logger: no log driver named '%s' is registered (moss has json-file and none)", c.Driver)
	}
}

func parseOptions(o map[string]string) (options, error) {
	r := options{maxFiles: 1}
	for _, k := range slices.Sorted(maps.Keys(o)) {
		v := o[k]
		var err error
		switch k {
		case "max-size":
			r.maxSize, err = parseSize(v)
		case "max-file":
			r.maxFiles, err = strconv.Atoi(v)
			if err != nil || r.maxFiles < 1 {
				err = moss.Errorf(moss.Invalid, "max-file must be a number of at least 1, not '%s'", v)
			}
		case "compress":
			err = only(k, v, "false", "rotated log files are not compressed: leave the option out")
		case "mode":
			err = only(k, v, "blocking", "output is never dropped: leave the option out")
		case "labels", "labels-regex", "env", "env-regex", "tag":
			err = moss.Errorf(moss.NotImplemented, "log opt '%s' is not supported: log entries carry no attributes; leave the option out and take them from inspect", k)
		default:
			err = moss.Errorf(moss.Invalid, "unknown log opt '%s' for json-file log driver", k)
		}
		if err != nil {
			return options{}, err
		}
	}
	return r, nil
}

// only lets an option have the one value that means what is done anyway.
func only(key, value, want, why string) error {
	if value == want {
		return nil
	}
	return moss.Errorf(moss.NotImplemented, "log opt '%s=%s' is not supported: %s", key, value, why)
}

// parseSize reads docker's sizes: a number with an optional unit, powers of 1000.
func parseSize(s string) (int64, error) {
	bad := moss.Errorf(moss.Invalid, "max-size must be a size like 10m, not '%s'", s)
	t := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "b")
	unit := 1.0
	if n := len(t); n > 0 {
		if i := strings.IndexByte("kmgtp", t[n-1]); i >= 0 {
			t = strings.TrimSpace(t[:n-1])
			for range i + 1 {
				unit *= 1000
			}
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	// 2⁶² keeps the product inside an int64; NaN fails both comparisons.
	if err != nil || !(v*unit >= 1 && v*unit < 1<<62) {
		return 0, bad
	}
	return int64(v * unit), nil
}
