package logs

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/moss-containers/moss/pkg/moss"
)

// The drivers that are named in more than one place.
const (
	driverJSON     = "json-file"
	driverLocal    = "local"
	driverJournald = "journald"
	driverNone     = "none"
)

// driver is what a log driver takes.
type driver struct {
	options []string
	check   func(o map[string]string) error         // of the driver's own options; nil for none
	asked   func(o map[string]string) error         // more, of containers that are to be made: those there are stay as they are; nil for none
	remote  bool                                    // it sends to a server and cannot read: a cache does
	dial    func(c *moss.Container) (sender, error) // of a remote one
}

var (
	fileOptionNames  = []string{"max-size", "max-file", "compress"}
	attrOptionNames  = []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	modeOptionNames  = []string{"mode", "max-buffer-size"}
	cacheOptionNames = []string{"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
)

var drivers = map[string]driver{
	driverNone:     {},
	driverJournald: {options: slices.Concat(attrOptionNames, modeOptionNames)},
	driverJSON:     {options: slices.Concat(fileOptionNames, attrOptionNames, modeOptionNames)},
	"syslog":       syslogDriver,
	"gelf":         gelfDriver,
	"fluentd":      fluentdDriver,
	driverLocal:    {options: slices.Concat(fileOptionNames, modeOptionNames)},
}

// settings are what the options of all drivers amount to.
type settings struct {
	driver string
	plugin bool        // the driver is none of ours
	file   fileOptions // of the log or of the cache
	cached bool
	ring   int64 // bytes that may wait; 0 in blocking mode
}

// fileOptions are what bounds a log's files.
type fileOptions struct {
	maxSize  int64 // bytes; 0 means no limit
	maxFiles int   // the present one included; at least 1
	compress bool  // the rotated ones
}

// Check says whether the driver and its options can be had by a new container. Errors: Invalid.
func (l *Logs) Check(c moss.LogConfig) error {
	s, err := parse(c)
	if err == nil && !s.plugin {
		err = checkLimits(c.Options)
	}
	if d := drivers[s.driver]; err == nil && d.asked != nil {
		err = d.asked(c.Options)
	}
	if err == nil && s.plugin {
		err = l.checkPlugin(s.driver)
	}
	return err
}

// checkLimits refuses for a size that it has no limit, as docker does: there is
// none where there is no option. Older containers may have it.
func checkLimits(o map[string]string) error {
	for _, key := range []string{"max-size", "cache-max-size"} {
		if o[key] == "-1" {
			return badSize(key, "-1")
		}
	}
	return nil
}

// CheckOptions checks the options of a driver when the daemon starts: what they
// name, a plugin or a socket, may not be there yet.
func (l *Logs) CheckOptions(c moss.LogConfig) error {
	_, err := parse(c)
	return err
}

func sortedDrivers() []string { return slices.Sorted(maps.Keys(drivers)) }

func parse(c moss.LogConfig) (settings, error) {
	s := settings{driver: c.Driver}
	if s.driver == "" {
		s.driver = driverJSON
	}
	d, ok := drivers[s.driver]
	o := c.Options
	if !ok {
		d, s.plugin = driver{remote: true}, true // all options are its own to judge
	}
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if !s.plugin && !slices.Contains(d.options, k) {
			return s, moss.Errorf(moss.Invalid, "unknown log opt '%s' for %s log driver", k, s.driver)
		}
	}
	if err := checkAttrs(o); err != nil {
		return s, err
	}
	if d.check != nil {
		if err := d.check(o); err != nil {
			return s, err
		}
	}
	var err error
	if s.ring, err = parseMode(o); err != nil {
		return s, err
	}
	s.file, s.cached, err = parseFile(s.driver, d.remote, o)
	return s, err
}

// parseFile reads the options of the log's files, or of its cache's.
func parseFile(name string, remote bool, o map[string]string) (f fileOptions, cached bool, err error) {
	prefix := ""
	f.maxFiles = 1
	if name == driverLocal || remote { // docker's defaults
		f = fileOptions{maxSize: 20_000_000, maxFiles: 5, compress: true}
	}
	if remote {
		prefix = "cache-"
		off, err := parseBool(o, "cache-disabled", false)
		if err != nil {
			return f, false, err
		}
		cached = !off
	}
	if v, ok := o[prefix+"max-size"]; ok && v != "-1" {
		f.maxSize, err = parseSize(prefix+"max-size", v)
	} else if ok {
		f.maxSize = 0
	}
	if err != nil {
		return f, cached, err
	}
	if v, ok := o[prefix+"max-file"]; ok {
		if f.maxFiles, err = strconv.Atoi(v); err != nil || f.maxFiles < 1 {
			return f, cached, moss.Errorf(moss.Invalid, "invalid value for %smax-file: '%s': %[1]smax-file cannot be less than 1", prefix, v)
		}
	}
	if f.compress, err = parseBool(o, prefix+"compress", f.compress); err != nil {
		return f, cached, err
	}
	if _, asked := o[prefix+"compress"]; f.compress && (f.maxFiles < 2 || f.maxSize == 0) {
		if asked {
			return f, cached, moss.Errorf(moss.Invalid, "%scompress cannot be true when %smax-file is less than 2 or %[1]smax-size is not set", prefix, prefix)
		}
		f.compress = false
	}
	return f, cached, nil
}

// parseMode returns how much may wait in non-blocking mode, 0 in blocking mode.
func parseMode(o map[string]string) (int64, error) {
	size, sized := o["max-buffer-size"]
	switch mode := o["mode"]; {
	case mode == "non-blocking" && !sized:
		return 1_000_000, nil
	case mode == "non-blocking":
		n, err := units.RAMInBytes(size)
		if err != nil || n < 1 {
			return 0, moss.Errorf(moss.Invalid, "error parsing option max-buffer-size: invalid size: '%s': want a positive number, as in 4m", size)
		}
		return n, nil
	case mode != "" && mode != "blocking":
		return 0, moss.Errorf(moss.Invalid, "logger: logging mode not supported: %s (blocking or non-blocking)", mode)
	case sized:
		return 0, moss.Errorf(moss.Invalid, "logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	default:
		return 0, nil
	}
}

func checkAttrs(o map[string]string) error {
	for _, k := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(o[k]); err != nil {
			return moss.Errorf(moss.Invalid, "log opt '%s' is no regular expression: %v", k, err)
		}
	}
	_, err := tagOf(&moss.Container{Host: moss.HostConfig{LogConfig: moss.LogConfig{Options: o}}}, "")
	return err
}

func parseBool(o map[string]string, key string, fallback bool) (bool, error) {
	v, ok := o[key]
	if !ok {
		return fallback, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, moss.Errorf(moss.Invalid, "invalid boolean value for %s: '%s': want true or false", key, v)
	}
	return b, nil
}

// parseSize reads docker's sizes: a number with an optional unit, powers of 1000.
func parseSize(key, s string) (int64, error) {
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
		return 0, badSize(key, s)
	}
	return int64(v * unit), nil
}

func badSize(key, s string) error {
	return moss.Errorf(moss.Invalid, "invalid size: '%s': %s must be a positive number, as in 10m", s, key)
}
