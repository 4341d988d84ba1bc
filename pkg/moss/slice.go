package moss

import (
	"regexp"
	"sync"
)

// Compiled when it is asked for: most engines never do.
var slice = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_.:@\\]+(-[A-Za-z0-9_.:@\\]+)*\.slice$`)
})

// IsSlice says whether a name can be that of a slice, systemd.slice(5).
func IsSlice(name string) bool { return slice().MatchString(name) }
